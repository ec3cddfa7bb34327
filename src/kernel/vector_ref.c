#include "kernel/vec16_ref.h"

#define VECTOR_FILL vector_fill_ref
#include "kernel/vector_tmpl.h"
