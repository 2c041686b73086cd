/* The model in the TA's memory. Internal to the TA. */
#ifndef LB_MODEL_STORE_H
#define LB_MODEL_STORE_H

#include "lb_runtime.h"
#include "lb_sealed.h"
#include "sealed_key.h"
#include "sealed_loading.h"
#include "secure_heap.h"

/* Everything that one open model holds; all zero when there is none. */
struct lb_held_model {
	struct lb_block file, arena, scratch;
	struct lb_block slice; /* one sealed slice, opened in place; empty where the model has none */
	struct lb_model model;
	/* With a training section only: what device and owner share, and the device's public key (tuned_export.h). */
	uint8_t owner_secret[LB_SEALED_SECRET_BYTES], device_key[LB_SEALED_KEY_BYTES];
};

/* What is wrong with a file of BAD_FORMAT, and where; or with a sealed model that SECURITY refuses. */
struct lb_fault {
	enum lb_error model;
	uint32_t index;
	enum lb_sealed_error sealed;
};

/*
 * Takes over the completely loaded model of that id, checks it, allocates arena and scratch and keeps its version.
 * Whatever comes of it, `loading` is empty afterwards, and on an error so is `held`.
 */
TEE_Result lb_held_model_open(struct lb_held_model *held, struct lb_loading *loading, const uint32_t model_id[4],
			      struct lb_fault *fault);

/* Wipes and frees; does nothing when nothing is held. */
void lb_held_model_close(struct lb_held_model *held);

#endif
