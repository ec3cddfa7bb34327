#include "cli/interrupt.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/os.h"
#include "cli/command.h"

enum reaction { LEAVE, CANCEL, REMEMBER };

/* A signal handler has no argument, so what it needs is global; all of it is lock-free atomic. It
 * runs on the program's first thread alone (all others hold signals back), so what it cancels
 * cannot end meanwhile. */
static _Atomic(struct hearth_sequence *) sequence_to_cancel;
static _Atomic(struct hearth_request *) request_to_cancel;
static atomic_int reaction;
static atomic_int came;
static atomic_int ending; /* the number of the signal that asked the process to end; or 0 */

static void cancel(void)
{
    struct hearth_sequence *sequence = atomic_load(&sequence_to_cancel);
    struct hearth_request *request = atomic_load(&request_to_cancel);
    if (sequence)
        hearth_sequence_cancel(sequence);
    if (request)
        hearth_request_cancel(request);
}

static void on_interrupt(void)
{
    int now = atomic_load(&reaction);
    if (now == LEAVE || (now == CANCEL && atomic_load(&came)))
        _Exit(EXIT_CODE_INTERRUPTED);
    atomic_store(&came, 1);
    if (now == CANCEL)
        cancel();
}

/* What Ctrl-C does, and then the command leaves by itself. */
static void on_terminate(int number)
{
    int now = atomic_load(&reaction);
    atomic_store(&ending, number);
    if (now == LEAVE)
        _Exit(EXIT_CODE_SIGNAL + number);
    atomic_store(&came, 1);
    if (now == CANCEL)
        cancel();
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
    os_on_terminate(on_terminate);
    os_on_bus_error(on_bus_error);
}

static void begin_cancel(struct hearth_sequence *sequence, struct hearth_request *request)
{
    atomic_store(&reaction, LEAVE);
    atomic_store(&came, 0);
    atomic_store(&sequence_to_cancel, sequence);
    atomic_store(&request_to_cancel, request);
    atomic_store(&reaction, CANCEL);
}

void interrupt_cancel(struct hearth_sequence *sequence)
{
    begin_cancel(sequence, NULL);
}

void interrupt_cancel_request(struct hearth_request *request)
{
    begin_cancel(NULL, request);
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

bool interrupt_ends(void)
{
    return atomic_load(&ending) != 0;
}

enum exit_code interrupt_code(void)
{
    int number = atomic_load(&ending);
    return number ? (enum exit_code)(EXIT_CODE_SIGNAL + number) : EXIT_CODE_INTERRUPTED;
}
