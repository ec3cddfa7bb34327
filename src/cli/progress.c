#include "cli/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "cli/console.h"

#define WORTH_SHOWING_NS 1000000000u
#define SURE_AFTER_NS 200000000u  /* before that an estimate of the whole is no good */
#define SHOWN_EVERY_NS 100000000u /* ten times a second is smooth, and free */
#define BAR_MAX 30u

void progress_begin(struct progress *progress, const char *label)
{
    *progress = (struct progress){
        .label = label,
        .begin_ns = os_monotonic_ns(),
        .terminal = os_is_terminal(CONSOLE_STDERR),
    };
}

static bool worth_showing(const struct progress *progress, double fraction, uint64_t taken)
{
    if (progress->shown || taken >= WORTH_SHOWING_NS)
        return true;
    return taken >= SURE_AFTER_NS && fraction > 0.0 &&
           (double)taken / fraction > (double)WORTH_SHOWING_NS;
}

void progress_update(struct progress *progress, double fraction, const char *note)
{
    uint64_t at = os_monotonic_ns(), taken = at - progress->begin_ns;
    if (!progress->terminal || !worth_showing(progress, fraction, taken))
        return;
    if (progress->shown && at - progress->shown_ns < SHOWN_EVERY_NS && fraction < 1.0)
        return;
    progress->shown = true;
    progress->shown_ns = at;
    fraction = fraction < 0.0 ? 0.0 : fraction > 1.0 ? 1.0 : fraction;
    unsigned width = os_terminal_width();
    size_t used = strlen(progress->label) + (note ? strlen(note) : 0) + 20;
    unsigned bar = width > used + 5 ? width - (unsigned)used : 5;
    bar = bar < BAR_MAX ? bar : BAR_MAX;
    unsigned full = (unsigned)(fraction * bar + 0.5);
    char left[SIZE_TEXT_MAX] = "";
    if (fraction > 0.0 && fraction < 1.0)
        duration_text((uint64_t)((double)taken / fraction * (1.0 - fraction)), left);
    fprintf(stderr, "\r\033[K%s [", progress->label);
    for (unsigned i = 0; i < bar; i++)
        fputc(i < full ? '#' : '.', stderr);
    fprintf(stderr, "] %3.0f %% %s%s%s", fraction * 100.0, left, note ? "  " : "",
            note ? note : "");
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->shown = false;
}
