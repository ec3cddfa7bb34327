#include "kernel/vec16_avx2.h"

#define VECTOR_FILL vector_fill_avx2
#include "kernel/vector_tmpl.h"
