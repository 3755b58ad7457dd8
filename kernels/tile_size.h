#ifndef STEELYARD_TILE_SIZE_H
#define STEELYARD_TILE_SIZE_H

#define TILE 64      /* rows that are worked on at a time */
#define TILE_LANES 4 /* partial sums in a fixed order: the same bits from every instruction set */
#endif
