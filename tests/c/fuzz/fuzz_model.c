/*
 * Model files: any bytes are parsed, and what is accepted is run. The parser's promises: no byte of an accepted file
 * leads outside of file, arena or scratch (the sanitizer's part), and no answer depends on what an earlier query left
 * there (each file runs twice, in memory filled differently, with equal results).
 */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *file = fuzz_block(size, 0);
	struct lb_model model;
	enum lb_error error;

	if (size)
		memcpy(file, data, size);
	error = lb_model_parse(&model, file, size);
	FUZZ_PROMISE(strlen(lb_strerror(error)) > 0);
	if (error == LB_OK)
		fuzz_run_model(&model);
	free(file);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	return fuzz_mutate_model(data, size, max_size, seed);
}
