/* version.h - the program's version, as people and peers see it. Versions of
 * protocols are numbers of their own (net/message.h, net/hello.h). */
#ifndef HTH_BASE_VERSION_H
#define HTH_BASE_VERSION_H

#define HTH_VERSION "0.1.0"
#define HTH_VERSION_DATE "November 21, 2026" /* of the manual page */

#endif
