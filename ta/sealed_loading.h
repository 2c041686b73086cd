/* A sealed model on its way into the TA, chunk by chunk. Internal to the TA. */
#ifndef LB_SEALED_LOADING_H
#define LB_SEALED_LOADING_H

#include "lb_sealed.h"
#include "secure_heap.h"

/* All zero when nothing is being loaded. */
struct lb_loading {
	struct lb_sealed_header header;
	struct lb_block file;           /* the plaintext so far */
	struct lb_block chunk;          /* one record, copied out of shared memory */
	TEE_OperationHandle decryption; /* holds the key; until the last chunk */
	uint32_t next;                  /* index of the chunk that is expected */
	int is_active;
};

/*
 * `bytes` of `header` are read once, so that they may lie in shared memory. On an error nothing is being loaded; with
 * SECURITY `error` says why, and `opened` which version was opened when it is OLDER.
 */
TEE_Result lb_loading_begin(struct lb_loading *loading, const void *header, size_t bytes, enum lb_sealed_error *error,
			    uint32_t *opened);

/* The next record, also read once. On an error everything is dropped; with SECURITY `error` says why. */
TEE_Result lb_loading_add(struct lb_loading *loading, const void *record, size_t bytes, enum lb_sealed_error *error);

/*
 * Hands the complete file over to `file`, which the caller frees, and frees the rest but the header. TRUNCATED and OLDER
 * (another session has opened a newer version meanwhile) with SECURITY, after which everything is dropped.
 */
TEE_Result lb_loading_finish(struct lb_loading *loading, struct lb_block *file, enum lb_sealed_error *error);

/* Keeps the version, if it is higher than the one that is kept. */
TEE_Result lb_loading_commit(const struct lb_sealed_header *header);

/* Wipes and frees; does nothing when nothing is being loaded. */
void lb_loading_drop(struct lb_loading *loading);

#endif
