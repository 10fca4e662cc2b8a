/* link.c - the frames of a data link: what moves between the caller's memory
 * and the socket. Waiting is in link_wait.c, opening in handshake.c.
 *
 * Sending seals one frame at a time into `out` and hands it to the kernel with
 * one send(). Receiving reads ahead into `in`, and opens whole frames straight
 * into the caller's memory. Bytes are read only while the caller expects a
 * message or while sending is stuck, so a peer that talks out of turn fills
 * HTH_LINK_INBOX_BYTES and no more. */
#include "net/link.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/mem.h"
#include "net/link_internal.h"

#define ABORT_TEXT_MAX 400u
#define ABORT_BYTES_MAX (4u + ABORT_TEXT_MAX)
/* A frame under way, and room for an abort behind it. */
#define OUT_BYTES \
    (HTH_LINK_CUT_BYTES + ABORT_BYTES_MAX + 2 * HTH_FRAME_OVERHEAD_BYTES)

_Static_assert(HTH_LINK_CUT_BYTES <= HTH_FRAME_BYTES_MAX, "cut fits a frame");
_Static_assert(HTH_LINK_INBOX_BYTES >=
                   HTH_FRAME_BYTES_MAX + HTH_FRAME_OVERHEAD_BYTES,
               "the inbox holds any frame whole");

/* ---- life ---------------------------------------------------------------- */

static int create(struct hth_link *l, const struct hth__link_start *s)
{
    int status;

    l->out = hth_mem_alloc(OUT_BYTES);
    l->in = hth_mem_alloc(HTH_LINK_INBOX_BYTES);
    if (l->out == NULL || l->in == NULL)
        return HTH_ENOMEM;
    if (s->cipher == 0) {
        status = hth__seal_open_plain(&l->seal, true);
        return status != HTH_OK ? status
                                : hth__seal_open_plain(&l->open, false);
    }
    status = hth_seal_open(&l->seal, s->cipher, &s->send_key, true);
    if (status == HTH_OK)
        status = hth_seal_open(&l->open, s->cipher, &s->recv_key, false);
    return status;
}

int hth__link_create(struct hth_link **out, const struct hth__link_start *s,
                     struct hth_err *err)
{
    struct hth_link *l = hth_mem_alloc(sizeof *l);
    int status;

    if (l == NULL) {
        close(s->fd);
        return hth_fail(err, HTH_ENOMEM, "open a link: out of memory");
    }
    l->fd = s->fd;
    l->peer = s->peer;
    l->cipher = s->cipher;
    l->spin_us_max = s->spin_us_max;
    status = create(l, s);
    if (status == HTH_OK)
        status = hth__socket_setup(l->fd, err);
    else
        status = hth_fail(err, status, "open a link to %s: %s", l->peer.name,
                          hth_status_text(status));
    if (status != HTH_OK) {
        hth_link_close(l);
        return status;
    }
    *out = l;
    return HTH_OK;
}

void hth_link_close(struct hth_link *l)
{
    if (l == NULL)
        return;
    close(l->fd);
    hth_seal_close(l->seal);
    hth_seal_close(l->open);
    hth_mem_free(l->out);
    hth_mem_free(l->in);
    hth_mem_free(l);
}

void hth_link_shutdown(struct hth_link *l)
{
    atomic_store(&l->stopped, true);
    (void)shutdown(l->fd, SHUT_RDWR);
}

/* ---- looking ------------------------------------------------------------- */

const struct hth_link_peer *hth_link_peer(const struct hth_link *l)
{
    return &l->peer;
}

const char *hth_link_cipher(const struct hth_link *l)
{
    return hth_cipher_name(l->cipher);
}

const struct hth_err *hth_link_error(const struct hth_link *l)
{
    return &l->error;
}

void hth_link_counters(const struct hth_link *l, struct hth_link_counters *out)
{
    *out = l->counters;
}

uint64_t hth_link_frames(uint64_t n_bytes)
{
    return n_bytes == 0
               ? 1
               : (n_bytes + HTH_LINK_CUT_BYTES - 1) / HTH_LINK_CUT_BYTES;
}

bool hth_link_sent(const struct hth_link *l)
{
    return !l->sending;
}

bool hth_link_received(const struct hth_link *l)
{
    return l->want == NULL;
}

bool hth__link_pending(const struct hth_link *l)
{
    return l->sending || l->want != NULL;
}

/* ---- one frame out ------------------------------------------------------- */

static void put_frame(struct hth_link *l, struct hth_frame *f, const void *src)
{
    hth_seal_frame(l->seal, f, src, l->out + l->out_len);
    l->out_len += f->len + HTH_FRAME_OVERHEAD_BYTES;
    l->counters.frames_sent++;
    l->counters.overhead_bytes_sent += HTH_FRAME_OVERHEAD_BYTES;
}

/* One send() of what is sealed: bytes moved, 0 when the kernel is full, -1 when
 * the connection is gone (errno says how). */
static ssize_t send_some(struct hth_link *l)
{
    ssize_t n = send(l->fd, l->out + l->out_at, l->out_len - l->out_at,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    l->send_blocked = n < 0;
    if (n >= 0) {
        l->out_at += (size_t)n;
        return n;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

/* Say why we stop, as far as the kernel takes it without waiting, and that
 * nothing more will come: the peer need not wait for its deadline. */
static void farewell(struct hth_link *l, int status, const char *text)
{
    uint8_t body[ABORT_BYTES_MAX];
    size_t n = strlen(text);
    struct hth_frame f = {.kind = HTH_FRAME_ABORT | HTH_FRAME_LAST};

    n = n < ABORT_TEXT_MAX ? n : ABORT_TEXT_MAX;
    hth_store_u32(body, (uint32_t)status);
    memcpy(body + 4, text, n);
    f.len = (uint32_t)(4 + n);
    if (l->out_at == l->out_len)
        l->out_at = l->out_len = 0;
    put_frame(l, &f, body);
    (void)send_some(l);
    (void)shutdown(l->fd, SHUT_WR);
}

/* ---- failing ------------------------------------------------------------- */

int hth__link_fail(struct hth_link *l, int status, const char *fmt, ...)
{
    char text[HTH_ERR_TEXT_MAX];
    va_list ap;

    if (l->error.status != HTH_OK)
        return l->error.status;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (atomic_load(&l->stopped))
        return hth_fail(&l->error, HTH_ECANCELLED, "link to %s: stopped here",
                        l->peer.name);
    if (status != HTH_EPEER && status != HTH_ECANCELLED)
        farewell(l, status, text);
    return hth_fail(&l->error, status, "%s (%s): %.380s", l->peer.name,
                    l->peer.address, text);
}

/* A socket that fails is a peer that is gone, whatever errno says. */
static int lost(struct hth_link *l, const char *how)
{
    return hth__link_fail(l, HTH_EPEER,
                          "%s; check that the device is on, awake and on the "
                          "network",
                          how);
}

/* ---- sending ------------------------------------------------------------- */

static void seal_next(struct hth_link *l)
{
    struct hth_frame f = {.kind = HTH_FRAME_DATA, .tag = l->send_tag};

    f.len = l->src_left < HTH_LINK_CUT_BYTES ? (uint32_t)l->src_left
                                             : HTH_LINK_CUT_BYTES;
    if (f.len == l->src_left)
        f.kind |= HTH_FRAME_LAST;
    l->out_at = l->out_len = 0;
    put_frame(l, &f, l->src);
    l->counters.payload_bytes_sent += f.len;
    l->src += f.len;
    l->src_left -= f.len;
    if (f.kind & HTH_FRAME_LAST)
        l->src = NULL;
}

/* Push until the message is out or the kernel is full. The clock is read only
 * where another frame follows: the common message is one frame. */
static int push_out(struct hth_link *l)
{
    int moved = 0;

    while (l->sending) {
        ssize_t n = send_some(l);

        if (n < 0)
            return -1;
        if (n == 0)
            break;
        moved = 1;
        if (l->out_at < l->out_len)
            continue;
        if (l->src == NULL) {
            l->sending = false;
            break;
        }
        seal_next(l);
        l->send_since_ns = hth_now_ns();
    }
    return moved;
}

/* push_out() with its time: for a new message from when it was posted, so that
 * sealing is in it and one clock reading a message is enough. A try at which
 * the kernel took nothing is part of waiting. */
static int timed_push(struct hth_link *l)
{
    uint64_t begun = l->fresh ? l->send_since_ns : hth_now_ns();
    bool fresh = l->fresh;
    int moved = push_out(l);

    l->fresh = false;
    if (fresh || moved != 0)
        l->counters.send_ns += hth_now_ns() - begun;
    return moved;
}

int hth_link_post(struct hth_link *l, uint64_t tag, const void *src, size_t n)
{
    static const uint8_t nothing;

    if (l->error.status != HTH_OK)
        return l->error.status;
    if (l->sending)
        return HTH_EBUSY;
    l->src = n > 0 ? src : &nothing;
    l->src_left = n;
    l->send_tag = tag;
    l->sending = true;
    l->fresh = true;
    l->send_since_ns = hth_now_ns();
    seal_next(l);
    return HTH_OK;
}

/* ---- receiving ----------------------------------------------------------- */

static int open_frame(struct hth_link *l, const struct hth_frame *f, void *dst)
{
    const uint8_t *header = l->in + l->in_at;
    int status = hth_seal_open_frame(l->open, f, header,
                                     header + HTH_FRAME_HEADER_BYTES, dst);

    if (status == HTH_EPROTO)
        return hth__link_fail(l, HTH_EPROTO,
                              "frame %llu came where %llu was due: replayed, "
                              "reordered or lost",
                              (unsigned long long)f->seq,
                              (unsigned long long)hth_seal_seq(l->open));
    if (status != HTH_OK)
        return hth__link_fail(l, status, "frame %llu was changed on the way",
                              (unsigned long long)f->seq);
    l->in_at += HTH_FRAME_OVERHEAD_BYTES + f->len;
    if (l->in_at == l->in_len)
        l->in_at = l->in_len = 0;
    l->counters.frames_received++;
    l->counters.overhead_bytes_received += HTH_FRAME_OVERHEAD_BYTES;
    return HTH_OK;
}

/* The peer gives up: its reason becomes our error. */
static int take_abort(struct hth_link *l, const struct hth_frame *f)
{
    uint8_t body[ABORT_BYTES_MAX];
    char text[ABORT_TEXT_MAX + 1];
    int status;
    int code;

    if (f->len < 4 || f->len > sizeof body)
        return hth__link_fail(l, HTH_EPROTO, "abort of %u bytes", f->len);
    status = open_frame(l, f, body);
    if (status != HTH_OK)
        return status;
    code = (int)(int32_t)hth_load_u32(body);
    memcpy(text, body + 4, f->len - 4);
    text[f->len - 4] = '\0';
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return hth__link_fail(l, HTH_ECANCELLED, "it stopped the work: %s (%s)",
                          text, hth_status_text(code));
}

/* The first frame of a message that may be any: where does it go? 1: not
 * anywhere yet. */
static int place_message(struct hth_link *l, const struct hth_frame *f)
{
    struct hth_link_msg *m = l->want;
    int status;

    m->tag = f->tag;
    m->skip = false;
    status = m->place(m->ctx, m);
    if (status == HTH_EBUSY)
        return 1;
    return status < 0
               ? hth__link_fail(l, status, "message 0x%llx was not expected",
                                (unsigned long long)f->tag)
               : HTH_OK;
}

/* A data frame for the message at hand. A message ends with its LAST frame,
 * never by count, so a short one cannot be taken for a longer one. */
static int take_data(struct hth_link *l, const struct hth_frame *f)
{
    struct hth_link_msg *m = l->want;
    int status;

    if (m->place != NULL && !l->begun) {
        status = place_message(l, f);
        if (status != HTH_OK)
            return status < 0 ? status : 0;
    }
    l->begun = true;
    if (m->skip)
        l->got = 0;
    if (f->tag != m->tag)
        return hth__link_fail(
            l, HTH_EPROTO, "message 0x%llx came where 0x%llx was expected",
            (unsigned long long)f->tag, (unsigned long long)m->tag);
    if (!m->skip && f->len > m->max - l->got)
        return hth__link_fail(l, HTH_EPROTO,
                              "message 0x%llx is longer than the %zu bytes "
                              "there is room for",
                              (unsigned long long)m->tag, m->max);
    status = open_frame(l, f, (uint8_t *)m->data + l->got);
    if (status != HTH_OK)
        return status;
    l->got += f->len;
    l->counters.payload_bytes_received += f->len;
    if (f->kind & HTH_FRAME_LAST) {
        m->n = l->got;
        l->want = NULL;
    } else {
        l->recv_since_ns = hth_now_ns();
    }
    return 1;
}

/* Take one whole frame out of the inbox: 1, or 0 when there is none or nobody
 * wants it yet. An abort is always wanted. */
static int take_frame(struct hth_link *l)
{
    size_t have = l->in_len - l->in_at;
    struct hth_err why;
    struct hth_frame f;
    int status;

    if (have < HTH_FRAME_HEADER_BYTES)
        return 0;
    status = hth_frame_decode(l->in + l->in_at, &f, &why);
    if (status != HTH_OK)
        return hth__link_fail(l, status, "%s", why.text);
    if (have < HTH_FRAME_OVERHEAD_BYTES + f.len)
        return 0;
    if ((f.kind & ~HTH_FRAME_LAST) == HTH_FRAME_ABORT)
        return take_abort(l, &f);
    return l->want != NULL ? take_data(l, &f) : 0;
}

/* Make room behind in_len by moving what is left to the front. */
static void compact(struct hth_link *l)
{
    if (l->in_at == 0 || HTH_LINK_INBOX_BYTES - l->in_len >=
                             HTH_LINK_CUT_BYTES + HTH_FRAME_OVERHEAD_BYTES)
        return;
    memmove(l->in, l->in + l->in_at, l->in_len - l->in_at);
    l->in_len -= l->in_at;
    l->in_at = 0;
}

/* One recv(): bytes, or 0 when there is nothing or no room. */
static ssize_t recv_some(struct hth_link *l)
{
    ssize_t n;

    compact(l);
    if (l->in_len == HTH_LINK_INBOX_BYTES)
        return 0; /* full of what nobody has asked for */
    n = recv(l->fd, l->in + l->in_len, HTH_LINK_INBOX_BYTES - l->in_len,
             MSG_DONTWAIT);
    if (n > 0) {
        l->in_len += (size_t)n;
        return n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    return lost(l, n == 0 ? "it closed the link" : strerror(errno));
}

/* Open what is there, read more, until the message is complete or the socket
 * is empty. Reading ahead without an expected message happens only while our
 * own sending is stuck: the peer may be waiting for us to read. */
static int pull_in(struct hth_link *l)
{
    int moved = 0;

    while (l->want != NULL || l->send_blocked) {
        int taken = take_frame(l);
        ssize_t n;

        if (taken < 0)
            return taken;
        moved |= taken;
        if (taken > 0)
            continue;
        n = recv_some(l);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        moved = 1;
    }
    return moved;
}

int hth_link_expect(struct hth_link *l, struct hth_link_msg *msg)
{
    if (l->error.status != HTH_OK)
        return l->error.status;
    if (l->want != NULL)
        return HTH_EBUSY;
    l->want = msg;
    l->got = 0;
    l->begun = false;
    l->recv_since_ns = hth_now_ns();
    return HTH_OK;
}

bool hth_link_unexpect(struct hth_link *l)
{
    if (l->want != NULL && l->begun)
        return false;
    l->want = NULL;
    return true;
}

/* Where sending fails, what the peer said last is read before the link is
 * called lost: it may have told us why. */
int hth_link_progress(struct hth_link *l)
{
    int out = 0;
    int in;

    if (l->error.status != HTH_OK)
        return l->error.status;
    if (atomic_load_explicit(&l->stopped, memory_order_relaxed))
        return hth__link_fail(l, HTH_ECANCELLED, "stopped");
    if (l->sending)
        out = timed_push(l);
    if (out < 0) {
        int why = errno;

        in = pull_in(l);
        return in < 0 ? in
                      : lost(l, why == EPIPE ? "it closed the link"
                                             : strerror(why));
    }
    in = pull_in(l);
    return in < 0 ? in : out | in;
}

/* ---- giving up ----------------------------------------------------------- */

void hth_link_abort(struct hth_link *l, int status, const char *text)
{
    if (l->error.status != HTH_OK)
        return;
    farewell(l, status, text);
    hth_fail(&l->error, HTH_ECANCELLED, "link to %s: given up: %.380s",
             l->peer.name, text);
}
