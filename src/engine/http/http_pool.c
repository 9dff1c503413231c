/*
 * Runs of pages, first fit.
 *
 * A run that is given back is overwritten: it held requests and answers.
 *
 * One byte a page says whether it is taken. First fit keeps the runs in use at low addresses, so pages above HTTP_PAGES_HOT
 * are used in peaks only and go back to the kernel when their run is given back: RSS follows the load down. A search looks
 * at 1,000 bytes for 32 MiB, and happens only for a request that did not arrive in one piece.
 */
#include "base/check.h"
#include "engine/http/http_int.h"
#include "os/thread.h"

void http_pool_init(struct http_pool *pool, uint8_t *memory, uint8_t *used, size_t pages) {
    pool->_memory = memory;
    pool->_used = used;
    pool->_pages = pages;
    pool->_free = pages;
}

uint8_t *http_pool_take(struct http_pool *pool, size_t size, size_t *ret_cap) {
    size_t wanted = (size + HTTP_PAGE_SIZE - 1) / HTTP_PAGE_SIZE;
    check(wanted != 0);
    if (wanted > pool->_free) {
        return NULL;
    }
    size_t run = 0;
    for (size_t page = 0; page < pool->_pages; page++) {
        run = pool->_used[page] != 0 ? 0 : run + 1;
        if (run == wanted) {
            size_t first = page + 1 - wanted;
            memset(pool->_used + first, 1, wanted);
            pool->_free -= wanted;
            *ret_cap = wanted * HTTP_PAGE_SIZE;
            return pool->_memory + first * HTTP_PAGE_SIZE;
        }
    }
    return NULL;
}

void http_pool_give(struct http_pool *pool, const uint8_t *run, size_t cap) {
    size_t offset = (size_t)(run - pool->_memory);
    size_t first = offset / HTTP_PAGE_SIZE;
    size_t count = cap / HTTP_PAGE_SIZE;
    check(offset % HTTP_PAGE_SIZE == 0 && cap % HTTP_PAGE_SIZE == 0 && count != 0);
    check(first + count <= pool->_pages);
    for (size_t page = first; page < first + count; page++) {
        check(pool->_used[page] == 1);
        pool->_used[page] = 0;
    }
    pool->_free += count;
    if (first < HTTP_PAGES_HOT) {
        size_t hot = first + count < HTTP_PAGES_HOT ? count : HTTP_PAGES_HOT - first;
        memset(pool->_memory + offset, 0, hot * HTTP_PAGE_SIZE);
    }
    if (first + count > HTTP_PAGES_HOT) {
        size_t cold = first > HTTP_PAGES_HOT ? first : HTTP_PAGES_HOT;
        os_memory_release(pool->_memory + cold * HTTP_PAGE_SIZE,
                          (first + count - cold) * HTTP_PAGE_SIZE);
    }
}
