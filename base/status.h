/* status.h - the one table of status codes, and the error text that goes
 * with a failure.
 *
 * Every function that can fail returns int: 0 is success, a negative value is
 * a code of this table. Foreign codes (errno, libuv, NNG, mbedTLS) are
 * translated in the file that calls the foreign function. Outputs are
 * untouched on error unless the function's comment says otherwise.
 *
 * struct hth_err carries the sentence a person reads: what failed, on which
 * device or file, and what to do. It is the caller's storage, never heap; a
 * NULL pointer is accepted everywhere and means "the code is enough". */
#ifndef HTH_BASE_STATUS_H
#define HTH_BASE_STATUS_H

#include <stddef.h>

/* X(name, code, text). Codes are stable: they cross the wire. */
#define HTH_STATUS_MAP(X)                    \
    X(EINVAL, -1, "invalid argument")        \
    X(ENOMEM, -2, "out of memory")           \
    X(EIO, -3, "input/output error")         \
    X(EFORMAT, -4, "malformed data")         \
    X(EUNSUPPORTED, -5, "not supported")     \
    X(ELIMIT, -6, "limit exceeded")          \
    X(ENOTFOUND, -7, "not found")            \
    X(EEXIST, -8, "already exists")          \
    X(ETIMEDOUT, -9, "timed out")            \
    X(EPEER, -10, "device lost")             \
    X(EPROTO, -11, "protocol error")         \
    X(EVERSION, -12, "incompatible version") \
    X(EAUTH, -13, "not authorised")          \
    X(EUNREACHABLE, -14, "unreachable")      \
    X(ECANCELLED, -15, "cancelled")          \
    X(EBUSY, -16, "busy")                    \
    X(EUSAGE, -17, "wrong usage")            \
    X(EHASH, -18, "content hash differs")    \
    X(EOVERFLOW, -19, "does not fit")        \
    X(EINTERNAL, -20, "internal error")

#define X(name, code, text) HTH_##name = code,
enum hth_status { HTH_OK = 0, HTH_STATUS_MAP(X) };
#undef X

#define HTH_ERR_TEXT_MAX 512u

struct hth_err {
    int status;
    char text[HTH_ERR_TEXT_MAX];
};

#define HTH_MUST_CHECK __attribute__((warn_unused_result))
#define HTH_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Short lower-case text of a code; never NULL, also for unknown codes. */
const char *hth_status_text(int status);

/* Stable upper-case name of a code ("EPEER"); never NULL. */
const char *hth_status_name(int status);

/* Fill *err (may be NULL) and return status, so that callers can write
 * `return hth_fail(err, HTH_EIO, "read %s: %s", path, strerror(errno));` */
int hth_fail(struct hth_err *err, int status, const char *fmt, ...)
    HTH_PRINTF(3, 4);

/* Put "prefix: " before the text already in *err; returns err->status (or
 * status where err is NULL). For adding who and where on the way up. */
int hth_fail_prefix(struct hth_err *err, int status, const char *fmt, ...)
    HTH_PRINTF(3, 4);

/* An assertion for our own bugs: on in release, prints and aborts. Never for
 * anything a file, a peer or a client can cause. */
#define HTH_ASSERT(cond) \
    ((cond) ? (void)0 : hth_assert_failed(#cond, __FILE__, __LINE__))
void hth_assert_failed(const char *what, const char *file, int line)
    __attribute__((noreturn));

#endif
