#ifndef KINSHIP_CIMAGE_H
#define KINSHIP_CIMAGE_H
#endif
