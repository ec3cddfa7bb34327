#include "cli/interrupt.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/os.h"
#include "cli/command.h"

enum reaction { LEAVE, CANCEL, REMEMBER };

/* A signal handler has no argument, so what it needs is global; all of it is lock-free atomic. */
static _Atomic(struct hearth_sequence *) to_cancel;
static atomic_int reaction;
static atomic_int came;

static void on_interrupt(void)
{
    int now = atomic_load(&reaction);
    if (now == LEAVE || (now == CANCEL && atomic_load(&came)))
        _Exit(EXIT_CODE_INTERRUPTED);
    atomic_store(&came, 1);
    if (now == CANCEL)
        hearth_sequence_cancel(atomic_load(&to_cancel));
}

static void on_bus_error(void)
{
    os_write_error(
        "\nhearth: a file that is in use, most likely the model, can no longer be read: it was "
        "cut short, or its drive failed or is gone\n");
    _Exit(EXIT_CODE_ERROR);
}

void interrupt_init(void)
{
    os_on_interrupt(on_interrupt);
    os_on_bus_error(on_bus_error);
}

void interrupt_cancel(struct hearth_sequence *sequence)
{
    atomic_store(&reaction, LEAVE);
    atomic_store(&came, 0);
    atomic_store(&to_cancel, sequence);
    atomic_store(&reaction, CANCEL);
}

void interrupt_remember(void)
{
    atomic_store(&came, 0);
    atomic_store(&reaction, REMEMBER);
}

void interrupt_leave(void)
{
    atomic_store(&reaction, LEAVE);
}

bool interrupt_came(void)
{
    return atomic_load(&came) != 0;
}
