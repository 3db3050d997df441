// checksum: CRC-32C (Castagnoli), the checksum of checkpoints and of TensorBoard's records.
#pragma once
#include <stdint.h>

#pragma GCC visibility push(default)

// The CRC-32C of `count` bytes that follow bytes whose CRC is `before` (0 at the beginning): mt_checksum_crc32c(0, "123456789", 9, 1) is
// 0xe3069283. bytes may be NULL where count is 0. hardware: 1 = the processor's instruction where it has one, 0 = tables
// (the same number; for tests).
uint32_t mt_checksum_crc32c(uint32_t before, const void *bytes, int64_t count, int32_t hardware);

#pragma GCC visibility pop
