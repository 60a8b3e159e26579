// Asks every target that this machine can run the same questions, and prints where one differs from the plain loop.
//
//     compare_targets FILE CALLERS
//
// FILE holds cascades and cases as test_other_processors.py writes them. CALLERS is how many threads ask at once; each
// detection has threads of its own as well. Ends with 1 where answers differ, with 2 where FILE is not as it should be.
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fasthaar.h"

namespace {

const int OUTPUTS = 3, ARRAYS = 12, MOST = 1024, CALLERS = 8;

struct Answer {
    int32_t status;
    fh_result result;
};

struct Case {
    const fh_cascade *cascade;
    fh_request request;
    Answer right[OUTPUTS];  // of the plain loop
};

FILE *file;
fh_cascade *cascades[MOST];
Case cases[MOST];
int32_t case_count, differences;  // the latter atomic
char names[64], *target;  // of all targets; of the one that is asked

void fail(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(2);
}

void read(void *to, size_t size) {
    if (size && fread(to, size, 1, file) != 1) fail("the file ends too early");
}

int32_t read_number(int32_t most = INT32_MAX) {
    int32_t number;
    read(&number, sizeof number);
    if (number < 0 || number > most) fail("a number is out of range");
    return number;
}

// Every array has memory of its own, so that an address sanitizer sees what is read beyond its end.
fh_cascade *read_cascade() {
    const size_t pointers = offsetof(fh_cascade_data, stage_thresholds);
    static_assert(offsetof(fh_cascade_data, tilted) == pointers + (ARRAYS - 1) * sizeof(void *), "");
    fh_cascade_data data = {};
    read(&data, 7 * sizeof(int32_t));
    void *arrays[ARRAYS];
    for (void *&array : arrays) {
        const int32_t size = read_number();
        read(array = malloc(size), size);
    }
    memcpy(reinterpret_cast<char *>(&data) + pointers, arrays, sizeof arrays);
    fh_cascade *cascade;
    if (fh_load(&data, &cascade)) fail("a cascade is refused");
    for (void *array : arrays) free(array);
    return cascade;
}

// Rows lie in memory as the request's stride says, which may be 0 or negative, with other bytes between them.
void read_case(Case &c) {
    fh_request &r = c.request;
    c.cascade = cascades[read_number(MOST)];
    read(&r, sizeof r);
    const size_t line = size_t(r.width) * r.channels, above = size_t(llabs(r.row_stride)) * (r.height - 1);
    uint8_t *const memory = static_cast<uint8_t *>(malloc(above + line));
    memset(memory, 0xaa, above + line);
    r.image = memory + (r.row_stride < 0 ? above : 0);
    for (int32_t y = 0; y < r.height; y++) read(const_cast<uint8_t *>(r.image) + r.row_stride * y, line);
}

Answer ask(const Case &c, int output, int threads) {
    fh_request request = c.request;
    request.output = output, request.threads = threads;
    Answer answer = {};
    answer.status = fh_detect(c.cascade, &request, &answer.result);
    return answer;
}

bool same(const void *a, const void *b, size_t size) { return size == 0 || memcmp(a, b, size) == 0; }

bool same(const Answer &a, const Answer &b, int output) {
    const fh_result &p = a.result, &q = b.result;
    const size_t count = p.count;
    return a.status == b.status && p.count == q.count && same(p.rects, q.rects, count * 4 * sizeof(int32_t)) &&
           (output < FH_COUNTS || same(p.numbers, q.numbers, count * sizeof(int32_t))) &&
           (output < FH_LEVELS || same(p.weights, q.weights, count * sizeof(double)));
}

void *ask_all(void *) {
    for (int32_t i = 0; i < case_count * 2 * OUTPUTS; i++) {
        const Case &c = cases[i / 2 / OUTPUTS];
        const int output = i / 2 % OUTPUTS, threads = i % 2 ? 3 : 1;
        Answer a = ask(c, output, threads);
        if (const Answer &b = c.right[output]; !same(a, b, output)) {
            __atomic_add_fetch(&differences, 1, __ATOMIC_RELAXED);
            printf("case %d, output %d, %d threads: %s answers %d with %d rectangles, the plain loop %d with %d\n",
                   i / 2 / OUTPUTS, output, threads, target, a.status, a.result.count, b.status, b.result.count);
        }
        fh_release(&a.result);
    }
    return nullptr;
}

// FNV-1a, so that answers can be compared with those of another processor.
void add(uint64_t &hash, const void *data, size_t size) {
    for (size_t i = 0; i < size; i++) hash = (hash ^ static_cast<const uint8_t *>(data)[i]) * 0x100000001b3;
}

}  // namespace

int main(int count, char **arguments) {
    file = count == 3 ? fopen(arguments[1], "rb") : nullptr;
    const int callers = file ? atoi(arguments[2]) : 0;
    if (callers < 1 || callers > CALLERS || fh_use_target("scalar")) fail("usage: compare_targets FILE CALLERS");
    for (int32_t i = 0, cascade_count = read_number(MOST); i < cascade_count; i++) cascades[i] = read_cascade();
    for (const int32_t most = read_number(MOST); case_count < most; case_count++) read_case(cases[case_count]);
    long rectangles = 0;
    uint64_t hash = 0xcbf29ce484222325;
    for (Case *c = cases; c != cases + case_count; c++)
        for (int output = 0; output < OUTPUTS; output++) {
            const Answer &a = c->right[output] = ask(*c, output, 1);
            rectangles += a.result.count;
            add(hash, a.result.rects, a.result.count * 4 * sizeof(int32_t));
            if (output >= FH_COUNTS) add(hash, a.result.numbers, a.result.count * sizeof(int32_t));
            if (output >= FH_LEVELS) add(hash, a.result.weights, a.result.count * sizeof(double));
        }
    for (char *rest = strcpy(names, fh_targets()); (target = strtok_r(rest, " ", &rest));) {
        fh_use_target(target);
        pthread_t others[CALLERS];
        for (int i = 1; i < callers; i++)
            if (pthread_create(&others[i], nullptr, ask_all, nullptr)) fail("no thread can be started");
        ask_all(nullptr);
        for (int i = 1; i < callers; i++) pthread_join(others[i], nullptr);
    }
    printf("%s: %d cases, %ld rectangles, %016llx\n", fh_targets(), case_count, rectangles, (unsigned long long)hash);
    return differences != 0;
}
