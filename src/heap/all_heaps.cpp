#include "heap/all_heaps.h"

#include <pthread.h>

#include "base/uncancelled.h"

namespace ace {
namespace {

pthread_mutex_t g_heaps_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t g_visitor_left = PTHREAD_COND_INITIALIZER;
Heap *g_first;

}  // namespace

void enter_heap(Heap &heap) {
  pthread_mutex_lock(&g_heaps_lock);
  heap.next = g_first;
  if (g_first != nullptr) g_first->previous = &heap;
  g_first = &heap;
  pthread_mutex_unlock(&g_heaps_lock);
}

void leave_heap(Heap &heap) {
  pthread_mutex_lock(&g_heaps_lock);
  const Uncancelled whole;
  while (heap.visitors.load(std::memory_order_relaxed) != 0) pthread_cond_wait(&g_visitor_left, &g_heaps_lock);
  (heap.previous != nullptr ? heap.previous->next : g_first) = heap.next;
  if (heap.next != nullptr) heap.next->previous = heap.previous;
  pthread_mutex_unlock(&g_heaps_lock);
}

void visit_heaps(void (*visit)(Heap &heap, void *context), void *context) {
  pthread_mutex_lock(&g_heaps_lock);
  for (Heap *heap = g_first; heap != nullptr; heap = heap->next) {
    heap->visitors.fetch_add(1, std::memory_order_relaxed);
    pthread_mutex_unlock(&g_heaps_lock);
    visit(*heap, context);
    pthread_mutex_lock(&g_heaps_lock);
    if (heap->visitors.fetch_sub(1, std::memory_order_relaxed) == 1) pthread_cond_broadcast(&g_visitor_left);
  }
  pthread_mutex_unlock(&g_heaps_lock);
}

void lock_all_heaps() {
  pthread_mutex_lock(&g_heaps_lock);
  for (Heap *heap = g_first; heap != nullptr; heap = heap->next) heap->roster_lock.lock();
}

void unlock_all_heaps() {
  for (Heap *heap = g_first; heap != nullptr; heap = heap->next) heap->roster_lock.unlock();
  pthread_mutex_unlock(&g_heaps_lock);
}

void forget_visitors() {
  g_visitor_left = PTHREAD_COND_INITIALIZER;
  for (Heap *heap = g_first; heap != nullptr; heap = heap->next)
    heap->visitors.store(0, std::memory_order_relaxed);
}

}  // namespace ace
