/* Training the open model in the TA, and its way out to the owner. Internal to the TA. */
#ifndef LB_TA_TRAINING_H
#define LB_TA_TRAINING_H

#include "lb_train.h"
#include "model_store.h"
#include "tuned_export.h"

/* All zero when nothing is trained. */
struct lb_ta_training {
	struct lb_block block;
	struct lb_train train;
	struct lb_sgd sgd;
	int is_active;
	int gives_gradient;
	uint32_t forward, backward; /* segments that have run in this sample, and those that have still to go back */
	uint32_t samples;           /* whole ones in this batch */
	struct lb_tuned_export out;
};

/* The commands; `held` is the open model, or NULL. */
TEE_Result lb_ta_train_begin(struct lb_ta_training *training, struct lb_held_model *held, uint32_t types,
			     TEE_Param params[4]);
TEE_Result lb_ta_train_forward(struct lb_ta_training *training, uint32_t types, TEE_Param params[4]);
TEE_Result lb_ta_train_backward(struct lb_ta_training *training, uint32_t types, TEE_Param params[4]);
TEE_Result lb_ta_train_answer(struct lb_ta_training *training, uint32_t types, TEE_Param params[4]);
TEE_Result lb_ta_train_step(struct lb_ta_training *training, uint32_t types, TEE_Param params[4]);
TEE_Result lb_ta_train_end(struct lb_ta_training *training, uint32_t types);
TEE_Result lb_ta_export_begin(struct lb_ta_training *training, const struct lb_held_model *held, uint32_t types,
			      TEE_Param params[4]);
TEE_Result lb_ta_export_chunk(struct lb_ta_training *training, const struct lb_held_model *held, uint32_t types,
			      TEE_Param params[4]);

/* Wipes and frees everything, an export under way too. */
void lb_ta_training_close(struct lb_ta_training *training);

#endif
