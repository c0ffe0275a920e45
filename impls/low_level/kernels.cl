/* The matrix product, and what follows it in a dense layer: one text, compiled as OpenCL C and as CUDA C.

   Row-major matrices: a (rows, depth), b (depth, columns), c (rows, columns). Whoever compiles it defines `real`,
   float or double. How many work-items a work-group has, and how much of c it computes, geometry.json says, for
   whoever launches it; the text must agree with it. Axis 0 runs along a row of c, so that neighbours in a work-group
   read and write neighbours in memory. */

#ifdef __OPENCL_VERSION__
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#define KERNEL __kernel
#define GLOBAL __global
#define SHARED __local
#define RESTRICT restrict
#define LOCAL_0 ((int)get_local_id(0))
#define LOCAL_1 ((int)get_local_id(1))
#define GROUP_0 ((int)get_group_id(0))
#define GROUP_1 ((int)get_group_id(1))
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define TANH(x) tanh(x)
#else
#define KERNEL extern "C" __global__
#define GLOBAL
#define SHARED __shared__
#define RESTRICT __restrict__
#define LOCAL_0 ((int)threadIdx.x)
#define LOCAL_1 ((int)threadIdx.y)
#define GROUP_0 ((int)blockIdx.x)
#define GROUP_1 ((int)blockIdx.y)
#define BARRIER() __syncthreads()
#define TANH(x) (sizeof(real) == sizeof(float) ? (real)tanhf((float)(x)) : (real)tanh((double)(x)))
#endif

#define TILE 16

/* A work-item computes one element, and reads a row of a and a column of b from global memory. */
KERNEL void product_naive(GLOBAL const real *RESTRICT a, GLOBAL const real *RESTRICT b, GLOBAL real *RESTRICT c,
                          int rows, int columns, int depth)
{
    const int row = GROUP_1 * TILE + LOCAL_1, column = GROUP_0 * TILE + LOCAL_0;
    if (row >= rows || column >= columns)
        return;
    real sum = 0;
    for (int k = 0; k < depth; k++)
        sum += a[row * depth + k] * b[k * columns + column];
    c[row * columns + column] = sum;
}

/* A work-item computes one element; the work-group loads each tile of a and b once, and shares it. */
KERNEL void product_tiled(GLOBAL const real *RESTRICT a, GLOBAL const real *RESTRICT b, GLOBAL real *RESTRICT c,
                          int rows, int columns, int depth)
{
    SHARED real a_tile[TILE][TILE];
    SHARED real b_tile[TILE][TILE];
    const int row = GROUP_1 * TILE + LOCAL_1, column = GROUP_0 * TILE + LOCAL_0;
    real sum = 0;
    for (int start = 0; start < depth; start += TILE) {
        /* Beyond the edges stand zeros, which add nothing; every work-item has to reach the barriers. */
        const int k_of_a = start + LOCAL_0, k_of_b = start + LOCAL_1;
        a_tile[LOCAL_1][LOCAL_0] = row < rows && k_of_a < depth ? a[row * depth + k_of_a] : 0;
        b_tile[LOCAL_1][LOCAL_0] = k_of_b < depth && column < columns ? b[k_of_b * columns + column] : 0;
        BARRIER();
        for (int k = 0; k < TILE; k++)
            sum += a_tile[LOCAL_1][k] * b_tile[k][LOCAL_0];
        BARRIER();
    }
    if (row < rows && column < columns)
        c[row * columns + column] = sum;
}

/* A work-item computes EACH x EACH elements in registers, so that what it reads from shared memory serves EACH
   products. Its elements lie TILE apart: neighbours still read and write neighbours. */
#define EACH 4
#define BLOCK (TILE * EACH)
#define STEP 16
KERNEL void product_blocked(GLOBAL const real *RESTRICT a, GLOBAL const real *RESTRICT b, GLOBAL real *RESTRICT c,
                            int rows, int columns, int depth)
{
    /* One more column than is used: without it, what is written down a column would meet in few banks. */
    SHARED real a_tile[STEP][BLOCK + 1];
    SHARED real b_tile[STEP][BLOCK];
    const int first_row = GROUP_1 * BLOCK, first_column = GROUP_0 * BLOCK;
    const int item = LOCAL_1 * TILE + LOCAL_0;
    real sums[EACH][EACH];
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            sums[i][j] = 0;
    for (int start = 0; start < depth; start += STEP) {
        for (int n = item; n < BLOCK * STEP; n += TILE * TILE) {
            const int row = first_row + n / STEP, k_of_a = start + n % STEP;
            const int column = first_column + n % BLOCK, k_of_b = start + n / BLOCK;
            a_tile[n % STEP][n / STEP] = row < rows && k_of_a < depth ? a[row * depth + k_of_a] : 0;
            b_tile[n / BLOCK][n % BLOCK] = k_of_b < depth && column < columns ? b[k_of_b * columns + column] : 0;
        }
        BARRIER();
        for (int k = 0; k < STEP; k++) {
            real of_a[EACH], of_b[EACH];
            for (int i = 0; i < EACH; i++) {
                of_a[i] = a_tile[k][LOCAL_1 + i * TILE];
                of_b[i] = b_tile[k][LOCAL_0 + i * TILE];
            }
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++)
                    sums[i][j] += of_a[i] * of_b[j];
        }
        BARRIER();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const int row = first_row + LOCAL_1 + i * TILE, column = first_column + LOCAL_0 + j * TILE;
            if (row < rows && column < columns)
                c[row * columns + column] = sums[i][j];
        }
}

/* In place: c plus the bias of its column, and an activation. */
#define AFTER_PRODUCT(NAME, ACTIVATED)                                                                                 \
    KERNEL void NAME(GLOBAL real *RESTRICT c, GLOBAL const real *RESTRICT bias, int rows, int columns)                 \
    {                                                                                                                  \
        const int row = GROUP_1 * TILE + LOCAL_1, column = GROUP_0 * TILE + LOCAL_0;                                   \
        if (row >= rows || column >= columns)                                                                          \
            return;                                                                                                    \
        const real x = c[row * columns + column] + bias[column];                                                       \
        c[row * columns + column] = ACTIVATED;                                                                         \
    }

AFTER_PRODUCT(add_bias, x)
/* So written, NaN stays NaN. */
AFTER_PRODUCT(add_bias_relu, x < 0 ? 0 : x)
AFTER_PRODUCT(add_bias_tanh, TANH(x))
