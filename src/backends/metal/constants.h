/* constants.h - the enumeration values of Metal that the backend uses, under Apple's names;
 * tests/metal/check_messages.py holds each line against the metadata. */
#ifndef MLXN_METAL_CONSTANTS_H
#define MLXN_METAL_CONSTANTS_H

enum {
    MTLResourceStorageModeShared = 0,
    MTLDispatchTypeConcurrent = 1,
    MTLBarrierScopeBuffers = 1,
    MTLCommandBufferStatusCompleted = 4,
    MTLCommandBufferStatusError = 5,
    MTLLanguageVersion2_3 = 131075,
    MTLMathModeSafe = 0,
    MTLPipelineOptionNone = 0,
    MTLPipelineOptionFailOnBinaryArchiveMiss = 4,
    MTLDataTypeInt = 29,
    MTLGPUFamilyApple7 = 1007,
    MTLGPUFamilyApple8 = 1008,
    MTLGPUFamilyApple9 = 1009,
};

#endif
