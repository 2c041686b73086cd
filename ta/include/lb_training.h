/*
 * What the owner allows a TA to do with a sealed model beside running it: a section at the end of the model file, behind
 * all that lb_model.h names. Whoever does not train does not look at it; a model without it cannot be trained.
 *
 * It lies in the plaintext of a sealed model (lb_sealed.h), so the chunks' tags vouch for it: the normal world can
 * neither add one nor put its own key in the place of the owner's.
 *
 *   struct lb_training             at the first multiple of LB_ALIGN behind the last section
 *   n_dropouts * struct lb_dropout
 *   zeros up to a multiple of LB_ALIGN, where the file ends
 */
#ifndef LB_TRAINING_H
#define LB_TRAINING_H

#include <stdint.h>

#define LB_TRAINING_MAGIC 0x3154424Cu /* "LBT1" */
#define LB_TRAINING_FORMAT 1u
#define LB_MAX_DROPOUTS 256u

struct lb_training {
	uint32_t magic;
	uint32_t format;
	/*
	 * 1: the gradient with respect to the first TEE segment's inputs goes out, because public layers before it are
	 * trained with it. 0: there are none, and nothing goes out.
	 */
	uint32_t gives_gradient;
	uint32_t n_dropouts;
	uint8_t owner_key[64]; /* P-256, X || Y: to whom tuned weights are sealed */
	uint32_t reserved[12]; /* 0 */
};

/* Applied to what an op makes, while training only. By rising op; none behind RELU6 and SOFTMAX. */
struct lb_dropout {
	uint32_t op;
	uint32_t drop; /* probability of becoming 0, times 2^32 */
};

#endif
