#include "kernel/vec16_avx512.h"

#define VECTOR_FILL vector_fill_avx512
#include "kernel/vector_tmpl.h"
