/* models.h without files and processes: a fixed list of models over fake backends.
 *
 *   fake    loaded
 *   cold    loaded on demand in 150 ms, with progress in quarters; its template knows reasoning
 *   slow    never done loading
 *   broken  cannot be loaded: HEARTH_E_FORMAT
 *
 * Its objects define every call of models.h, so that the linker takes none of the real one's. */
#ifndef TESTS_FAKE_MODELS_H
#define TESTS_FAKE_MODELS_H

#include "fake_backend.h"
#include "server/models.h"

struct fake_models_counts {
    struct fake_backend_counts backend; /* of all models */
    unsigned leases, waits;             /* that are held */
    unsigned acquired, forgotten;
};
struct fake_models_counts *fake_models_counts(struct models *models);
/* Ends what the backend of a model has at work, as when its worker dies. */
void fake_models_break(struct models *models, const char *name, const char *cause);
/* As fake_backend_last_ask, of a model; NULL. */
const json_t *fake_models_last_ask(struct models *models, const char *name);

#endif
