/* A loaded deployment and the queries it answers. */
#ifndef LB_AGENT_DEPLOYMENT_H
#define LB_AGENT_DEPLOYMENT_H

#include "agent_protocol.h"
#include "failure.h"
#include "lb_runtime.h"
#include "slices.h"
#include "tee.h"

struct deployment {
	unsigned char *file; /* the public one */
	size_t file_bytes, received;
	unsigned char *sealed; /* until it is loaded */
	size_t sealed_bytes, sealed_received;
	struct slices slices;
	int is_ready;
	struct lb_model model;
	void *arena, *scratch;
	struct tee tee;
	uint64_t switches, bytes_to_tee, bytes_from_tee; /* per query */
	size_t image_bytes, output_bytes, boundary_bytes;
	uint32_t policy, n_crossings;
	uint64_t unseal_ns, unseal_cpu_ns; /* of the TA, for the sealed model, on either clock */
	struct training *training;         /* NULL: none */
};

/* Room for a public and a sealed file and for slices; a deployment that was loaded before is dropped. */
int deployment_begin(struct deployment *deployment, const struct lb_load *load, struct failure *failure);

/* The files' next bytes; with the last ones the deployment becomes ready. */
int deployment_add(struct deployment *deployment, const void *data, size_t bytes, struct failure *failure);

/* deployment->n_crossings of them. */
void deployment_crossings(const struct deployment *deployment, struct lb_crossing *crossings);

/*
 * One query. `output` gets output_bytes, `boundary` (or NULL) boundary_bytes; `invoke_ns` is increased by the time
 * that calls into the secure world took on `clock`.
 */
int deployment_query(struct deployment *deployment, const void *image, void *output, void *boundary, clockid_t clock,
		     uint64_t *invoke_ns, struct failure *failure);

/* Bytes of normal-world memory: public file, slices, arena, scratch. */
size_t deployment_ree_bytes(const struct deployment *deployment);

/* Leaves the context of the secure world, which ends with tee_end(). */
void deployment_drop(struct deployment *deployment);

#endif
