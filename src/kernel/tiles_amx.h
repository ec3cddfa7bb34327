/* What ldtilecfg reads. Private to the files of this room that use AMX. */
#ifndef KERNEL_TILES_AMX_H
#define KERNEL_TILES_AMX_H

#include <stdint.h>

/* Intel SDM, volume 1, section 18.2. */
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#endif
