/* packed.h - one block of a shard on disk, as the window reads it: its pieces
 * (model/piece.h) in the layout of the kernels, each from a page boundary on,
 * so that a read goes straight from the disk to where it is computed with.
 *
 *   DIR/<key>        whole
 *   DIR/.<key>.<n>   being written; no name is kept for it after a crash
 *
 * A file is a header (what it is, the pieces' sizes, a checksum of each
 * HTH_PACKED_CHUNK_BYTES, a checksum of all that) and the pieces. It appears by
 * rename when all pieces are in it. The key says what the bytes are, so a file
 * is never updated; the version of the layout is in the header, and a file of
 * another version, shape or size is written anew.
 *
 * Reads go around the page cache (O_DIRECT), or leave nothing in it where the
 * file system cannot; so do writes. Every read is checked.
 * Threads: any, for pieces (write) and chunks (read) of their own. */
#ifndef HTH_WORKER_PACKED_H
#define HTH_WORKER_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/hash.h"
#include "base/status.h"
#include "worker/pages.h"

#define HTH_PACKED_CHUNK_BYTES (1u << 20)

/* How bytes are read; for tests that let a disk fail. */
struct hth_packed_io {
    ssize_t (*pread)(void *ctx, int fd, void *dst, size_t n, off_t at);
    void *ctx;
};

struct hth_packed_opts {
    const char *dir; /* exists */
    uint8_t key[HTH_HASH_BYTES];
    uint32_t layout;             /* version of what is in the pieces */
    uint32_t pieces;             /* >= 1 */
    const uint64_t *piece_bytes; /* [pieces], copied; whole pages, may be 0 */
    const struct hth_packed_io *io; /* borrowed; NULL: pread(2) */
};

struct hth_packed;

/* HTH_OK also when there is no such file, or none that is good: nothing can be
 * read from it then before it is written. HTH_ENOMEM. */
HTH_MUST_CHECK int hth_packed_open(struct hth_packed **out,
                                   const struct hth_packed_opts *opts,
                                   struct hth_err *err);
void hth_packed_close(struct hth_packed *p); /* NULL is fine */

/* Can this piece be read? */
bool hth_packed_has(struct hth_packed *p, uint32_t piece);
/* Is the file whole under its name? */
bool hth_packed_whole(struct hth_packed *p);
const char *hth_packed_path(const struct hth_packed *p);
/* Of the whole file. */
uint64_t hth_packed_bytes(const struct hth_packed *p);

/* Write one piece from page-aligned memory. Into a whole file (its bytes on
 * disk were damaged) in place: HTH_EHASH when these are not the bytes it once
 * had. HTH_EIO names the path and says what is wrong (disk full, ...). */
HTH_MUST_CHECK int hth_packed_write(struct hth_packed *p, uint32_t piece,
                                    const void *data, struct hth_err *err);

uint32_t hth_packed_chunks(const struct hth_packed *p, uint32_t piece);
/* Bytes of a chunk; the last one of a piece may be shorter. */
uint32_t hth_packed_chunk_bytes(const struct hth_packed *p, uint32_t piece,
                                uint32_t chunk);
/* Read chunk `chunk` of a piece to its place in page-aligned memory that
 * begins with the piece. HTH_EIO: the disk failed, or the file is shorter now;
 * HTH_EHASH: these are not the bytes that were written. With the path. */
HTH_MUST_CHECK int hth_packed_read(struct hth_packed *p, uint32_t piece,
                                   uint32_t chunk, void *data,
                                   struct hth_err *err);

/* Check a header of n bytes against what is expected; sums[chunks of all
 * pieces] is filled. Pure; for open and its fuzzer. */
bool hth_packed_parse(const struct hth_packed_opts *opts, const uint8_t *head,
                      size_t n, uint32_t *sums);
/* Bytes of the header of such a file: whole pages. */
uint64_t hth_packed_header_bytes(const struct hth_packed_opts *opts);

#endif
