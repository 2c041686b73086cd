/* The highest version of each model that was opened, in secure storage. Internal to the TA. */
#ifndef LB_MODEL_VERSION_H
#define LB_MODEL_VERSION_H

#include <tee_internal_api.h>

/* 0 where none is kept. CORRUPT_OBJECT: what is stored is no version; it is not taken for 0. */
TEE_Result lb_model_version_read(const uint32_t model_id[4], uint32_t *version);
TEE_Result lb_model_version_write(const uint32_t model_id[4], uint32_t version);

#endif
