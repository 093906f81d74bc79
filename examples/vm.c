/* A VM in small, on a heap of its own: its only values are lists, its collector marks and sweeps.
 *
 *     cc vm.c $(pkg-config --cflags --libs ace) -o vm
 *
 * It runs a script that makes garbage, within a limit that the collector keeps; one that hoards, and is stopped
 * by the limit; and lives on. The exit status is 0 where all of that held. docs/embedding.md explains it. */
#include <ace/ace.h>
#include <stdio.h>
#include <string.h>

typedef struct object {
  struct object *next; /* all objects, for the sweep */
  struct object *tail; /* the rest of the list */
  size_t size;         /* so that it is freed with its size */
  int is_marked;
} object;

typedef struct vm {
  ace_heap *heap;
  object *objects;
  object *root; /* the list that the script holds */
  size_t live_bytes;
} vm;

static void collect(vm *vm) {
  ace_hint(vm->heap, ACE_HINT_COLLECT_BEGIN, 0);
  for (object *o = vm->root; o != NULL && !o->is_marked; o = o->tail) o->is_marked = 1;

  ace_hint(vm->heap, ACE_HINT_SWEEP, 0);
  for (object **link = &vm->objects; *link != NULL;) {
    object *o = *link;
    if (o->is_marked) {
      o->is_marked = 0;
      link = &o->next;
    } else {
      *link = o->next;
      vm->live_bytes -= o->size;
      ace_heap_free_swept(vm->heap, o, o->size);
    }
  }
  ace_hint(vm->heap, ACE_HINT_COLLECT_END, vm->live_bytes);
}

/* Asked within the allocation that would pass the limit: what it is for is no object yet, and not reachable. */
static int make_room(ace_heap *heap, size_t missing, void *context) {
  vm *self = (vm *)context;
  size_t before = self->live_bytes;
  (void)heap;
  (void)missing;
  collect(self);
  return self->live_bytes < before;
}

static int open_vm(vm *vm, const char *name, size_t limit) {
  ace_heap_config config;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.name = name;
  config.limit = limit;
  config.on_limit = make_room;
  config.on_limit_context = vm;
  memset(vm, 0, sizeof *vm);
  vm->heap = ace_heap_create(&config);
  return vm->heap != NULL;
}

/* Puts an object of `size` bytes before the list; 0 where there is no memory: the VM raises its own error. */
static int prepend(vm *vm, size_t size) {
  object *o = (object *)ace_heap_alloc(vm->heap, size);
  if (o == NULL) return 0;
  o->next = vm->objects;
  o->tail = vm->root;
  o->size = size;
  o->is_marked = 0;
  vm->objects = vm->root = o;
  vm->live_bytes += size;
  return 1;
}

/* Each list is dropped when the next one begins. */
static int run_script(vm *vm, int lists, int length) {
  for (int i = 0; i < lists; ++i) {
    vm->root = NULL;
    for (int j = 0; j < length; ++j) {
      if (!prepend(vm, sizeof(object) + (size_t)(j % 100))) return 0;
    }
  }
  return 1;
}

int main(void) {
  vm vm;
  ace_stats stats;
  char broken[200] = "";
  int makes_garbage, hoards, goes_on;
  if (!open_vm(&vm, "script", (size_t)8 << 20)) return 1;

  makes_garbage = run_script(&vm, 100, 10000);
  hoards = run_script(&vm, 1, 1000000);
  vm.root = NULL; /* as the error unwinds the script's stack */
  collect(&vm);
  goes_on = run_script(&vm, 1, 1000);

  ace_hint(vm.heap, ACE_HINT_IDLE_BEGIN, 0); /* it waits for its next script */
  ace_hint(vm.heap, ACE_HINT_IDLE_END, 0);

  ace_heap_stats(vm.heap, &stats, sizeof stats);
  printf("garbage: %s, hoarding: %s, afterwards: %s\n", makes_garbage ? "ran" : "stopped",
         hoards ? "ran" : "stopped", goes_on ? "ran" : "stopped");
  printf("%llu collections; at most %llu KiB resident, %llu KiB now\n",
         (unsigned long long)stats.collections_full, (unsigned long long)stats.peak_resident_bytes >> 10,
         (unsigned long long)stats.resident_bytes >> 10);
  if (ace_heap_audit(vm.heap, broken, sizeof broken) != 0) fprintf(stderr, "%s\n", broken);

  ace_heap_destroy(vm.heap); /* with all its objects */
  return makes_garbage && !hoards && goes_on && broken[0] == '\0' ? 0 : 1;
}
