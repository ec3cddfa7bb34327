/* What a program that links the installed library looks like: one greedy token behind a prompt. */
#include <hearth/hearth.h>
#include <hearth/session.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct hearth_error err = {0};
    struct hearth_model *model = NULL;
    struct hearth_engine *engine = NULL;
    struct hearth_sequence *sequence = NULL;
    struct hearth_sampler *sampler = NULL;
    struct hearth_sampling greedy;
    const uint32_t prompt[] = {1, 2, 3, 4};
    uint32_t id = 0;
    hearth_sampling_default(&greedy);
    greedy.temperature = 0;
    if (argc != 2 || hearth_model_open(argv[1], NULL, &model, &err) ||
        hearth_engine_open(model, NULL, &engine, &err) ||
        hearth_sampler_open(model, &greedy, &sampler, &err) ||
        hearth_sequence_open(engine, 0, &sequence, &err) ||
        hearth_sequence_extend(sequence, prompt, 4, HEARTH_LOGITS_LAST, &err) ||
        hearth_engine_step(engine, NULL, &err) ||
        hearth_sampler_sample(sampler, hearth_sequence_logits(sequence, 0), &id, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("hearth %s %u\n", hearth_version(), (unsigned)id);
    hearth_sequence_close(sequence);
    hearth_sampler_close(sampler);
    hearth_engine_close(engine);
    hearth_model_close(model);
    return 0;
}
