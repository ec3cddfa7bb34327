#include "kernel/vec16_neon.h"

#define VECTOR_FILL vector_fill_neon
#include "kernel/vector_tmpl.h"
