/* Counts the requests to glibc's allocator of 4,096 bytes and more: a second instrument beside memray, which wraps the
   same functions in another way. Preloaded (LD_PRELOAD); read by ctypes. */
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static volatile int counting;
static long requests, bytes;

static void note(size_t n) {
    if (counting && n >= 4096) {
        __atomic_add_fetch(&requests, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&bytes, (long)n, __ATOMIC_RELAXED);
    }
}

void count_begin(void) { requests = bytes = 0; counting = 1; }
void count_end(void) { counting = 0; }
long count_requests(void) { return requests; }
long count_bytes(void) { return bytes; }

void *malloc(size_t n) { note(n); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { note(n * size); return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { note(n); return __libc_realloc(p, n); }
void *memalign(size_t alignment, size_t n) { note(n); return __libc_memalign(alignment, n); }
void *aligned_alloc(size_t alignment, size_t n) { note(n); return __libc_memalign(alignment, n); }
int posix_memalign(void **p, size_t alignment, size_t n) {
    note(n);
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : ENOMEM;
}
