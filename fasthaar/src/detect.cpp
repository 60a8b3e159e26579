// One detection: the request is checked, the levels are cut into tasks, threads work on them, the hits are joined.
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cascade.h"
#include "pyramid.h"

namespace fh {

#define KERNEL(name) extern const Kernel kernel_##name
KERNEL(scalar);
#if defined(__x86_64__)
KERNEL(sse4);
KERNEL(avx2);
KERNEL(avx512);
static const Kernel *const kernels[] = {&kernel_avx512, &kernel_avx2, &kernel_sse4, &kernel_scalar};
#elif defined(__aarch64__)
KERNEL(neon);
static const Kernel *const kernels[] = {&kernel_neon, &kernel_scalar};
#else
static const Kernel *const kernels[] = {&kernel_scalar};
#endif

static const Kernel *chosen;  // atomic

namespace {

const int MAX_SIDE = 32767, MAX_THREADS = 64;
const int MIN_TASK_ROWS = 16;      // of windows: a task computes window_height rows of integral image in vain
const int TASKS_PER_THREAD = 8;    // so that no thread waits long for the last one

const Kernel *kernel() {
    const Kernel *now = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    if (now) return now;
    for (const Kernel *k : kernels)
        if (k->supported()) {
            __atomic_store_n(&chosen, k, __ATOMIC_RELEASE);
            return k;
        }
    return nullptr;  // the scalar one is always supported
}

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

bool valid(const fh_request &r) {
    return r.width >= 1 && r.height >= 1 && r.width <= MAX_SIDE && r.height <= MAX_SIDE &&
           (r.channels == 1 || r.channels == 3 || r.channels == 4) &&
           r.scale_factor >= 1.0001 && r.scale_factor <= 1e6 &&
           r.output >= FH_RECTANGLES && r.output <= FH_LEVELS && r.threads >= 1 && r.threads <= MAX_THREADS;
}

// Grey as OpenCV's COLOR_BGR2GRAY: weights in 1/32768.
uint8_t *grey_copy(const fh_request &r) {
    uint8_t *const grey = static_cast<uint8_t *>(malloc(size_t(r.width) * r.height));
    if (!grey) return nullptr;
    for (int32_t y = 0; y < r.height; y++) {
        const uint8_t *from = r.image + r.row_stride * y;
        uint8_t *const to = grey + size_t(r.width) * y;
        for (int32_t x = 0; x < r.width; x++, from += r.channels)
            to[x] = static_cast<uint8_t>((from[0] * 3735 + from[1] * 19235 + from[2] * 9798 + 16384) >> 15);
    }
    return grey;
}

struct Crew {
    Run *run;
    const Kernel *kernel;
    const Level *levels;
    int32_t level_count;
    Task *tasks;
    int32_t task_count, next_task;  // atomic
};

void *work_on_tasks(void *argument) {
    Crew &crew = *static_cast<Crew *>(argument);
    void *const work = crew.kernel->work_create(*crew.run, crew.levels, crew.level_count);
    if (!work) {
        stop(*crew.run, FH_OUT_OF_MEMORY);
        return nullptr;
    }
    for (;;) {
        const int32_t i = __atomic_fetch_add(&crew.next_task, 1, __ATOMIC_RELAXED);
        if (i >= crew.task_count || !go_on(*crew.run)) break;
        crew.kernel->detect(*crew.run, crew.levels[crew.tasks[i].level], crew.tasks[i], work);
    }
    crew.kernel->work_free(work);
    return nullptr;
}

int compare_hits(const void *a, const void *b) {
    const Hit *p = static_cast<const Hit *>(a), *q = static_cast<const Hit *>(b);
    return p->y != q->y ? (p->y < q->y ? -1 : 1) : p->x < q->x ? -1 : p->x > q->x;
}

// With FH_LEVELS, OpenCV takes a window without contrast for one that passed the first stage; in a cascade of one stage
// that is an accepted window, with the sum of the window before it. That order needs the plain loop, from end to end.
bool needs_plain_loop(const Run &run) { return run.want_weights && run.cascade->stage_count == 1; }

Task *tasks_create(const Level *levels, int32_t level_count, int32_t threads, int32_t &count) {
    int64_t windows = 0;
    for (int32_t i = 0; i < level_count; i++) windows += int64_t(levels[i].columns) * levels[i].rows;
    const int64_t share = threads > 1 ? windows / (int64_t(threads) * TASKS_PER_THREAD) + 1 : windows + 1;
    Task *tasks = nullptr;
    for (int pass = 0; pass < 2; pass++) {
        count = 0;
        for (int32_t i = 0; i < level_count; i++) {
            const Level &level = levels[i];
            if (level.columns == 0) continue;
            const int64_t fair = share / level.columns;
            const int32_t most = fair < level.rows ? static_cast<int32_t>(fair) : level.rows;
            const int32_t rows = most > MIN_TASK_ROWS ? most : MIN_TASK_ROWS;
            for (int32_t row = 0; row < level.rows; row += rows, count++)
                if (tasks) tasks[count] = {i, row, row + rows < level.rows ? row + rows : level.rows, {}};
        }
        if (!tasks) tasks = static_cast<Task *>(calloc(count + 1, sizeof *tasks));
        if (!tasks) return nullptr;
    }
    return tasks;
}

void run_crew(Crew &crew, int32_t threads) {
    pthread_t others[MAX_THREADS];
    int32_t started = 0;
    // Where no more threads can be had, those that are there do all the work.
    while (started < threads - 1 && pthread_create(&others[started], nullptr, work_on_tasks, &crew) == 0) started++;
    work_on_tasks(&crew);
    for (int32_t i = 0; i < started; i++) pthread_join(others[i], nullptr);
}

// The hits of all tasks as rectangles of the image.
bool collect(Crew &crew, fh_result &result) {
    int64_t count = 0;
    for (int32_t t = 0; t < crew.task_count; t++) count += crew.tasks[t].hits.count;
    if (count > INT32_MAX / 4) return false;
    result.rects = static_cast<int32_t *>(malloc(size_t(count + 1) * 4 * sizeof(int32_t)));
    result.numbers = static_cast<int32_t *>(malloc(size_t(count + 1) * sizeof(int32_t)));
    result.weights = static_cast<double *>(malloc(size_t(count + 1) * sizeof(double)));
    if (!result.rects || !result.numbers || !result.weights) return false;
    const fh_cascade &c = *crew.run->cascade;
    for (int32_t t = 0; t < crew.task_count; t++) {
        const Hits &hits = crew.tasks[t].hits;
        const float scale = crew.levels[crew.tasks[t].level].scale;
        if (hits.count) qsort(hits.data, hits.count, sizeof *hits.data, compare_hits);
        for (int32_t i = 0; i < hits.count; i++) {
            int32_t *const rect = result.rects + 4 * size_t(result.count);
            rect[0] = static_cast<int32_t>(lrintf(hits.data[i].x * scale));
            rect[1] = static_cast<int32_t>(lrintf(hits.data[i].y * scale));
            rect[2] = static_cast<int32_t>(lrintf(c.window_width * scale));
            rect[3] = static_cast<int32_t>(lrintf(c.window_height * scale));
            result.numbers[result.count] = c.stage_count;
            result.weights[result.count++] = hits.data[i].weight;
        }
    }
    return true;
}

// Cuts rectangles off at the image's edges, as OpenCV does after grouping, and drops those that lie outside.
void clip(const fh_request &r, fh_result &result) {
    int32_t kept = 0;
    for (int32_t i = 0; i < result.count; i++) {
        const int32_t *a = result.rects + 4 * size_t(i);
        const int32_t left = a[0] > 0 ? a[0] : 0, top = a[1] > 0 ? a[1] : 0;
        const int32_t right = a[0] + a[2] < r.width ? a[0] + a[2] : r.width;
        const int32_t bottom = a[1] + a[3] < r.height ? a[1] + a[3] : r.height;
        if (right <= left || bottom <= top) continue;
        const int32_t rect[4] = {left, top, right - left, bottom - top};
        memcpy(result.rects + 4 * size_t(kept), rect, sizeof rect);
        result.numbers[kept] = result.numbers[i];
        result.weights[kept++] = result.weights[i];
    }
    result.count = kept;
}

void detect(Run &run, const fh_request &r, fh_result &result) {
    Crew crew = {};
    crew.run = &run;
    crew.kernel = needs_plain_loop(run) ? &kernel_scalar : kernel();
    Level *const levels = levels_create(*run.cascade, r, crew.level_count);
    crew.levels = levels;
    const int32_t threads = needs_plain_loop(run) ? 1 : r.threads;
    if (crew.level_count >= 0) crew.tasks = tasks_create(levels, crew.level_count, threads, crew.task_count);
    if (!crew.tasks) {
        stop(run, FH_OUT_OF_MEMORY);
    } else {
        if (crew.task_count) run_crew(crew, threads < crew.task_count ? threads : crew.task_count);
        if (run.status == FH_OK && !collect(crew, result)) stop(run, FH_OUT_OF_MEMORY);
        for (int32_t t = 0; t < crew.task_count; t++) free(crew.tasks[t].hits.data);
    }
    free(crew.tasks);
    free(levels);
    if (run.status != FH_OK) return;
    const int32_t left = group(run, reinterpret_cast<int32_t(*)[4]>(result.rects),
                               r.output == FH_RECTANGLES ? nullptr : result.numbers,
                               r.output == FH_LEVELS ? result.weights : nullptr, result.count, r.min_neighbors);
    if (left < 0) return;
    result.count = left;
    clip(r, result);
}

}  // namespace

void stop(Run &run, int status) {
    int32_t none = FH_OK;
    __atomic_compare_exchange_n(&run.status, &none, status, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool go_on(Run &run) {
    if (__atomic_load_n(&run.status, __ATOMIC_RELAXED) != FH_OK) return false;
    if (run.deadline >= 0 && now() > run.deadline) {
        stop(run, FH_TOO_SLOW);
        return false;
    }
    return true;
}

bool add_hit(Run &run, Hits &hits, int32_t x, int32_t y, double weight) {
    if (run.max_candidates >= 0 && __atomic_add_fetch(&run.candidates, 1, __ATOMIC_RELAXED) > run.max_candidates) {
        stop(run, FH_TOO_MANY_CANDIDATES);
        return false;
    }
    if (hits.count == hits.capacity) {
        const int32_t capacity = hits.capacity ? 2 * hits.capacity : 64;
        void *const larger = capacity < (1 << 27) ? realloc(hits.data, capacity * sizeof *hits.data) : nullptr;
        if (!larger) {
            stop(run, FH_OUT_OF_MEMORY);
            return false;
        }
        hits.data = static_cast<Hit *>(larger);
        hits.capacity = capacity;
    }
    hits.data[hits.count++] = {x, y, weight};
    return true;
}

}  // namespace fh

int fh_detect(const fh_cascade *cascade, const fh_request *request, fh_result *result) {
    *result = {};
    if (!fh::valid(*request)) return FH_INVALID;
    fh::Run run = {};
    run.cascade = cascade;
    run.image = request->image;
    run.row_stride = request->row_stride;
    run.width = request->width;
    run.height = request->height;
    run.want_weights = request->output == FH_LEVELS;
    run.max_candidates = request->max_candidates;
    run.deadline = request->max_seconds < 0 ? -1 : fh::now() + request->max_seconds;
    uint8_t *grey = nullptr;
    if (request->channels > 1) {
        run.image = grey = fh::grey_copy(*request);
        run.row_stride = request->width;
        if (!grey) return FH_OUT_OF_MEMORY;
    }
    fh::detect(run, *request, *result);
    free(grey);
    if (run.status != FH_OK) fh_release(result);
    return run.status;
}

void fh_release(fh_result *result) {
    free(result->rects);
    free(result->numbers);
    free(result->weights);
    *result = {};
}

static char target_names[64];

static void list_targets() {
    char *end = target_names;
    for (const fh::Kernel *k : fh::kernels)
        if (k->supported()) {
            if (end != target_names) *end++ = ' ';
            for (const char *c = k->name; *c; c++) *end++ = *c;
        }
}

const char *fh_targets(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_targets);
    return target_names;
}

int fh_use_target(const char *name) {
    for (const fh::Kernel *k : fh::kernels)
        if (strcmp(k->name, name) == 0 && k->supported()) {
            __atomic_store_n(&fh::chosen, k, __ATOMIC_RELEASE);
            return FH_OK;
        }
    return FH_INVALID;
}
