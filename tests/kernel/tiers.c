/* Prints the tiers that this processor runs. */
#include <stdio.h>

#include "kernel/kernel.h"

int main(void)
{
    const char *name;
    for (size_t i = 0; (name = kernels_tier_at(i)) != NULL; i++)
        printf(i > 0 ? " %s" : "%s", name);
    printf("\n");
}
