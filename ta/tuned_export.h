/* A tuned model on its way out of the TA, sealed to its owner chunk by chunk (lb_sealed.h). Internal to the TA. */
#ifndef LB_TUNED_EXPORT_H
#define LB_TUNED_EXPORT_H

#include "lb_sealed.h"
#include "model_store.h"

/* All zero when nothing is being exported. */
struct lb_tuned_export {
	struct lb_sealed_header header;
	struct lb_block record; /* encrypted here, then copied out: never read back from shared memory */
	TEE_OperationHandle cipher;
	uint32_t next; /* index of the chunk */
};

/* Makes the key and the header. `owner_key` is that of the held model, a point of the curve. On an error nothing is being exported. */
TEE_Result lb_tuned_export_begin(struct lb_tuned_export *out, const struct lb_held_model *held,
				 const uint8_t owner_key[LB_SEALED_KEY_BYTES]);

/* Encrypts the next chunk of `file` into `record`. The file must not change until the last one: no key serves twice. */
TEE_Result lb_tuned_export_next(struct lb_tuned_export *out, const unsigned char *file);

/* Wipes and frees; does nothing when nothing is being exported. */
void lb_tuned_export_drop(struct lb_tuned_export *out);

#endif
