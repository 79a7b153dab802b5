/* metal_cpp_test.cpp - Apple's own metal-cpp drives the simulator from a device to a finished
 * command buffer: an independent proof that the simulator takes messages as Apple's compilers send
 * them (structs by value and as results, doubles, blocks), and that the backend's constants and
 * structs are Apple's.  Built and run by metal_cpp.sh.  Ends with "N passed, N failed". */
#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <cstdio>
#include <cstring>
#include <type_traits>

/* The backend's constants beside metal-cpp's: same names, so they get a namespace. */
namespace backend
{
#include "backends/metal/constants.h"
struct metal_size {
    unsigned long width, height, depth;
};
} // namespace backend

#define SAME(ours, theirs) static_assert((long)backend::ours == (long)(theirs), #ours)
SAME(MTLResourceStorageModeShared, MTL::ResourceStorageModeShared);
SAME(MTLDispatchTypeConcurrent, MTL::DispatchTypeConcurrent);
SAME(MTLBarrierScopeBuffers, MTL::BarrierScopeBuffers);
SAME(MTLCommandBufferStatusCompleted, MTL::CommandBufferStatusCompleted);
SAME(MTLCommandBufferStatusError, MTL::CommandBufferStatusError);
SAME(MTLLanguageVersion2_3, MTL::LanguageVersion2_3);
SAME(MTLMathModeSafe, MTL::MathModeSafe);
SAME(MTLPipelineOptionNone, MTL::PipelineOptionNone);
SAME(MTLGPUFamilyApple7, MTL::GPUFamilyApple7);
SAME(MTLGPUFamilyApple8, MTL::GPUFamilyApple8);
SAME(MTLGPUFamilyApple9, MTL::GPUFamilyApple9);
static_assert(sizeof(backend::metal_size) == sizeof(MTL::Size) &&
                  offsetof(backend::metal_size, depth) == offsetof(MTL::Size, depth),
              "a size is passed as Apple's");
static_assert(std::is_same<decltype(std::declval<MTL::CommandBuffer>().GPUStartTime()),
                           CFTimeInterval>::value &&
                  sizeof(CFTimeInterval) == sizeof(double),
              "times are doubles");

extern "C" {
#include "metalsim.h"
extern const char mlxn_kernel_text_user[];
}

static int passed, failed;

static void check(bool good, const char *what)
{
    passed += good;
    failed += !good;
    if (!good)
        printf("FAILED %s\n", what);
}
#define CHECK(condition) check(condition, #condition)

static NS::String *text_of(const char *text)
{
    return NS::String::string(text, NS::UTF8StringEncoding);
}

static MTL::ComputePipelineState *make_pipeline(MTL::Device *device)
{
    NS::Error *error = nullptr;
    MTL::CompileOptions *options = MTL::CompileOptions::alloc()->init();
    options->setLanguageVersion(MTL::LanguageVersion2_3);
    options->setFastMathEnabled(false);
    MTL::Library *library = device->newLibrary(text_of(mlxn_kernel_text_user), options, &error);
    options->release();
    CHECK(library && !error && metalsim_count.precise);
    if (!library)
        return nullptr;
    MTL::Function *function = library->newFunction(text_of("user_add"));
    MTL::ComputePipelineState *pipeline = device->newComputePipelineState(function, &error);
    function->release();
    library->release();
    return pipeline;
}

static void run(MTL::Device *device, MTL::ComputePipelineState *pipeline)
{
    enum { N = 128 };
    const float add = 2;
    MTL::Buffer *from = device->newBuffer(N * sizeof(float), MTL::ResourceStorageModeShared);
    MTL::Buffer *to = device->newBuffer(N * sizeof(float), MTL::ResourceStorageModeShared);
    for (int i = 0; i < N; i++)
        ((float *)from->contents())[i] = (float)i;
    MTL::CommandQueue *queue = device->newCommandQueue();
    MTL::CommandBuffer *commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder *encoder =
        commands->computeCommandEncoder(MTL::DispatchTypeConcurrent);
    encoder->setComputePipelineState(pipeline);
    encoder->setBuffer(from, 0, 0);
    encoder->setBuffer(to, 0, 1);
    encoder->setBytes(&add, sizeof add, 2);
    encoder->dispatchThreadgroups(MTL::Size(2, 1, 1), MTL::Size(64, 1, 1));
    encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    encoder->setBuffer(to, 0, 0);
    encoder->setBuffer(from, 0, 1);
    encoder->dispatchThreadgroups(MTL::Size(2, 1, 1), MTL::Size(64, 1, 1));
    encoder->endEncoding();
    __block int handled = 0;
    commands->addCompletedHandler(^(MTL::CommandBuffer *done) {
      handled = (int)done->status();
    });
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(commands->status() == MTL::CommandBufferStatusCompleted && !commands->error());
    CHECK(handled == MTL::CommandBufferStatusCompleted);
    CHECK(commands->GPUEndTime() > commands->GPUStartTime() && commands->GPUStartTime() > 0);
    CHECK(((float *)to->contents())[N - 1] == N + 1 && ((float *)from->contents())[0] == 4);
    from->release();
    to->release();
    queue->release();
}

static void fail_to_compile(MTL::Device *device)
{
    NS::Error *error = nullptr;
    MTL::Library *library = device->newLibrary(text_of("kernel of nothing"), nullptr, &error);
    CHECK(!library && error && strstr(error->localizedDescription()->utf8String(), "error"));
}

int main()
{
    char left[400];
    void *pool = objc_autoreleasePoolPush();
    MTL::Device *device = MTL::CreateSystemDefaultDevice();
    const MTL::Size most = device->maxThreadsPerThreadgroup();
    CHECK(!strcmp(device->name()->utf8String(), "Simulated GPU"));
    CHECK(device->supportsFamily(MTL::GPUFamilyApple7) &&
          !device->supportsFamily((MTL::GPUFamily)1));
    CHECK(most.width == 1024 && most.height == 1024 && most.depth == 64);
    MTL::ComputePipelineState *pipeline = make_pipeline(device);
    CHECK(pipeline && pipeline->threadExecutionWidth() == 32);
    CHECK(pipeline->maxTotalThreadsPerThreadgroup() == 1024);
    run(device, pipeline);
    fail_to_compile(device);
    pipeline->release();
    device->release();
    objc_autoreleasePoolPop(pool);
    CHECK(metalsim_live(left, sizeof left) == 0);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
