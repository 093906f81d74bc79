// The playbook's text: what was learned, a line for each context, made to be read, compared and edited.
//
//   ace-playbook 1 page=4096 byte_seconds=1073741824
//   full collapsed late: hold=0 samples=120 helpful=80 harmful=3 gained_us=512 weights=9001,0,0,0,0,0,0,0
//
// `hold`: how long free memory is held, in eighths of the break-even time. A line that begins with "pin " is
// followed as it stands and never learned; one that is deleted is learned anew. Pure: no file, no globals.
#pragma once
#include <cstddef>

#include "decide/learn.h"

namespace ace {

inline constexpr size_t kPlaybookMax = 16384;

// What a playbook must agree with to be of use.
struct PlaybookFit {
  uint64_t page_size;
  uint64_t byte_seconds;
};

// Fills `text`, with a final zero; returns its length, 0 where `size` is too small. Contexts without samples
// that are not pinned are left out.
size_t format_playbook(char *text, size_t size, const PlaybookFit &fit, const Context (&contexts)[kContexts]);

// Contexts of which the text has a line are set, the others stay as they are. nullptr, or what is wrong with
// the text (a sentence's end for "the playbook ..."), and nothing is set then. `line` receives the line's
// number.
const char *parse_playbook(const char *text, const PlaybookFit &fit, Context (&contexts)[kContexts],
                           unsigned *line);

// A loop's context begins with what is known, but for an eighth of the prior: the experience of another program
// is soon forgotten.
void start_from(Context &fresh, const Context &known);

// Adds what another loop has learned in the same context, by its samples.
void add_context(Context &sum, const Context &more);

}  // namespace ace
