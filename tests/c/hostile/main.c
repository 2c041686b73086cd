/*
 * hostile key              prints the device's public key in hex, to which the models must be sealed
 * hostile attack FOLDER [THOROUGHNESS]
 *                          runs every group of bad calls; in the folder lie model, trainable, large (sealed), in0, out0,
 *                          in1, out1
 *
 * Prints a line for each group that held, and exits with the number of rules that were not enforced, at most 90.
 */
#define _POSIX_C_SOURCE 200809L
#include "hostile.h"

#include <time.h>

int failures;
int thoroughness = 1;
struct material material;

static void read_file(const char *folder, const char *name, struct file *file)
{
	char path[4096];
	FILE *stream;
	long bytes;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	stream = fopen(path, "rb");
	if (!stream || fseek(stream, 0, SEEK_END) || (bytes = ftell(stream)) <= 0 || fseek(stream, 0, SEEK_SET)) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(96);
	}
	file->bytes = (size_t)bytes;
	file->data = malloc(file->bytes);
	if (!file->data || fread(file->data, 1, file->bytes, stream) != file->bytes)
		exit(96);
	fclose(stream);
}

static int print_key(void)
{
	TEEC_Operation operation = {.paramTypes =
					    TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)};
	uint8_t key[LB_SEALED_KEY_BYTES];
	struct client client;

	operation.params[0].tmpref = (TEEC_TempMemoryReference){key, sizeof(key)};
	if (client_open(&client) || call(&client, LEAKBOARD_CMD_DEVICE_KEY, &operation))
		return 95;
	for (size_t i = 0; i < sizeof(key); i++)
		printf("%02x", key[i]);
	printf("\n");
	client_close(&client);
	return 0;
}

static const struct {
	const char *name;
	void (*attack)(struct client *client);
} groups[] = {
	{"parameter types", break_types},
	{"sizes", break_sizes},
	{"references", break_references},
	{"order", break_order},
	{"loading", break_loading},
	{"training", break_training},
	{"exhaustion", exhaust},
	{"open and close", open_and_close},
	{"changed during calls", change_during_calls},
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int attack(const char *folder)
{
	struct client client;
	TEEC_Result result;

	read_file(folder, "model", &material.model);
	read_file(folder, "trainable", &material.trainable);
	read_file(folder, "large", &material.large);
	read_file(folder, "in0", &material.in[0]);
	read_file(folder, "in1", &material.in[1]);
	read_file(folder, "out0", &material.out[0]);
	read_file(folder, "out1", &material.out[1]);
	result = client_open(&client);
	if (result) {
		fprintf(stderr, "no session with the TA: 0x%08x\n", result);
		return 94;
	}
	EXPECT(load(&client, &material.model), TEEC_SUCCESS);
	expect_right_answers(&client);
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		double started = now_s();
		int before = failures;

		groups[i].attack(&client);
		expect_right_answers(&client);
		printf("%s %s (%.1f s)\n", failures == before ? "held:" : "BROKE:", groups[i].name, now_s() - started);
		fflush(stdout);
	}
	EXPECT(close_model(&client), TEEC_SUCCESS);
	EXPECT(heap_now(&client), 0);
	client_close_beside(&client);
	for (int i = 0; i < 2; i++) { /* with no session left, the TA itself was gone */
		EXPECT(client_open_beside(&client, &client.context), TEEC_SUCCESS);
		EXPECT(load(&client, &material.model), TEEC_SUCCESS);
		expect_right_answers(&client);
		client_close_beside(&client);
	}
	TEEC_FinalizeContext(&client.context);
	return failures > 90 ? 90 : failures;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "key"))
		return print_key();
	if (argc == 4)
		thoroughness = atoi(argv[3]);
	if ((argc == 3 || argc == 4) && thoroughness > 0 && !strcmp(argv[1], "attack"))
		return attack(argv[2]);
	fprintf(stderr, "usage: hostile key | hostile attack FOLDER [THOROUGHNESS]\n");
	return 93;
}
