// CUDA's language on the host, as far as our kernels use it, and the kernels' own text: a block of threads is run as
// fibers, which take turns at barriers. Shared memory is filled with NaN before each block, so that what is read there
// before it was written shows in the result.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <ucontext.h>
#include <vector>

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx;

#define __global__
#define __restrict__
// A section of its own, so that its length is known.
#define __shared__ __attribute__((section("shared_memory"))) static

static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<bool> ended;
static std::vector<int> barriers;
static unsigned running;

static void __syncthreads()
{
    barriers[running]++;
    swapcontext(&fibers[running], &scheduler);
}

#include KERNELS

extern "C" char __start_shared_memory[], __stop_shared_memory[];

typedef void (*Product)(const real *, const real *, real *, int, int, int);
typedef void (*After)(real *, const real *, int, int);
static struct {
    Product product;
    After after;
    const real *a, *b;
    real *c;
    int rows, columns, depth;
} call;

static void one_thread()
{
    if (call.product)
        call.product(call.a, call.b, call.c, call.rows, call.columns, call.depth);
    else
        call.after(call.c, call.b, call.rows, call.columns);
    ended[running] = true;
}

// Runs what `call` says. Returns 0, or 1 if threads of a block reached unlike numbers of barriers.
static int launch(const unsigned *grid, const unsigned *block)
{
    const unsigned threads = block[0] * block[1];
    std::vector<std::vector<char>> stacks(threads, std::vector<char>(1 << 16));
    for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) {
            memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
            fibers.assign(threads, ucontext_t());
            ended.assign(threads, false);
            barriers.assign(threads, 0);
            for (unsigned n = 0; n < threads; n++) {
                getcontext(&fibers[n]);
                fibers[n].uc_stack.ss_sp = stacks[n].data();
                fibers[n].uc_stack.ss_size = stacks[n].size();
                fibers[n].uc_link = &scheduler;
                makecontext(&fibers[n], one_thread, 0);
            }
            for (bool any = true; any;) {
                any = false;
                for (unsigned n = 0; n < threads; n++)
                    if (!ended[n]) {
                        running = n;
                        threadIdx.x = n % block[0];
                        threadIdx.y = n / block[0];
                        swapcontext(&scheduler, &fibers[n]);
                        any = true;
                    }
            }
            for (unsigned n = 1; n < threads; n++)
                if (barriers[n] != barriers[0])
                    return 1;
        }
    return 0;
}

extern "C" int run_product(int which, const unsigned *grid, const unsigned *block, const real *a, const real *b,
                           real *c, int rows, int columns, int depth)
{
    const Product products[] = {product_naive, product_tiled, product_blocked};
    call = {products[which], nullptr, a, b, c, rows, columns, depth};
    return launch(grid, block);
}

extern "C" int run_after(int which, const unsigned *grid, const unsigned *block, real *c, const real *bias, int rows,
                         int columns)
{
    const After after[] = {add_bias, add_bias_relu, add_bias_tanh};
    call = {nullptr, after[which], nullptr, bias, c, rows, columns, 0};
    return launch(grid, block);
}
