/* For bench/check_costs: `pairs SIZE COUNT` allocates COUNT blocks, writes to each, and frees them, ten times;
 * the blocks of a time are freed in another order than they were made. COUNT 0 is what a run costs without. */
#include <ace/ace.h>
#include <stdlib.h>

enum { kMost = 4096, kTimes = 10 };

int main(int argc, char **argv) {
  static char *blocks[kMost];
  if (argc != 3) return 2;
  const size_t size = strtoul(argv[1], NULL, 10);
  const unsigned count = (unsigned)strtoul(argv[2], NULL, 10);
  if (count > kMost) return 2;
  ace_heap *heap = ace_heap_create(NULL);
  for (int time = 0; time < kTimes; ++time) {
    for (unsigned i = 0; i < count; ++i) {
      blocks[i] = ace_heap_alloc(heap, size);
      if (blocks[i] == NULL) return 1;
      blocks[i][0] = 1;
    }
    for (unsigned i = 0; i < count; ++i) ace_heap_free(heap, blocks[i * 17 % count]);
  }
  return 0;
}
