/* wrap.c - one byte at a time. A word is held until it is known whether it
 * fits; everything else is where the line stands. */
#include "cli/wrap.h"

#define TAB_COLUMNS 8u
#define CODE_INDENT 4u /* spaces that make a line code */
#define FENCE_TICKS 3u

/* Columns that a character takes, told by its first byte: combining marks
 * none, East Asian scripts and emoji two. Where a block is mixed the larger
 * one holds, so that a line may end early and never late. */
static unsigned columns_of(uint8_t first)
{
    if (first >= 0x80 && first < 0xc0)
        return 0; /* goes on */
    if (first == 0xcc)
        return 0;
    return (first >= 0xe3 && first <= 0xed) || first >= 0xef ? 2 : 1;
}

static void put_spaces(struct hth_wrap *w, struct hth_buf *out)
{
    w->column += w->spaces;
    for (; w->spaces > 0; w->spaces--)
        hth_put_u8(out, ' ');
}

static void put_word(struct hth_wrap *w, struct hth_buf *out)
{
    put_spaces(w, out);
    if (w->held > 0)
        hth_put_bytes(out, w->word, w->held);
    w->column += w->wide;
    w->held = 0;
    w->wide = 0;
}

/* The word is over: here if it fits, else on a line of its own, which takes
 * the place of the spaces. */
static void place_word(struct hth_wrap *w, unsigned width, struct hth_buf *out)
{
    if (w->held == 0)
        return;
    if (!w->raw && w->column > 0 && w->spaces > 0 &&
        w->column + w->spaces + w->wide > width) {
        hth_put_u8(out, '\n');
        w->column = 0;
        w->spaces = 0;
    }
    put_word(w, out);
}

/* The beginning of a line says whether it is code. */
static void look(struct hth_wrap *w, uint8_t b)
{
    if (w->inside)
        return;
    if (b == ' ' && w->ticks == 0) {
        w->raw = w->raw || ++w->indent >= CODE_INDENT;
    } else if (b == '`') {
        if (++w->ticks < FENCE_TICKS)
            return;
        w->fence = !w->fence;
        w->raw = true;
        w->inside = true;
    } else {
        w->raw = w->raw || b == '\t';
        w->inside = true;
    }
}

static void end_line(struct hth_wrap *w, struct hth_buf *out)
{
    put_spaces(w, out);
    hth_put_u8(out, '\n');
    w->column = 0;
    w->indent = w->ticks = 0;
    w->inside = w->flows = false;
    w->raw = w->fence;
}

static void add(struct hth_wrap *w, unsigned width, uint8_t b,
                struct hth_buf *out)
{
    w->word[w->held++] = b;
    w->wide += columns_of(b);
    if (w->raw || w->flows) {
        put_word(w, out);
    } else if (w->wide > width || w->held == HTH_WRAP_HELD_MAX) {
        put_word(w, out);
        w->flows = true;
    }
}

static void space(struct hth_wrap *w, unsigned width, struct hth_buf *out)
{
    place_word(w, width, out);
    if (w->flows && width > 0)
        w->column %= width; /* the terminal broke it */
    w->flows = false;
    w->spaces++;
}

void hth_wrap_push(struct hth_wrap *w, unsigned width, const uint8_t *p,
                   size_t n, struct hth_buf *out)
{
    if (width == 0) {
        hth_wrap_finish(w, width, out);
        hth_put_bytes(out, p, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        look(w, p[i]);
        if (p[i] == '\n') {
            place_word(w, width, out);
            end_line(w, out);
        } else if (p[i] == ' ' && !w->raw) {
            space(w, width, out);
        } else if (p[i] == '\t') {
            place_word(w, width, out);
            put_spaces(w, out);
            hth_put_u8(out, '\t');
            w->column += TAB_COLUMNS - w->column % TAB_COLUMNS;
            w->flows = false;
        } else {
            add(w, width, p[i], out);
        }
    }
}

void hth_wrap_finish(struct hth_wrap *w, unsigned width, struct hth_buf *out)
{
    if (width > 0)
        place_word(w, width, out);
    else
        put_word(w, out);
    put_spaces(w, out);
}
