/* The requests about training; main.c hands them on. They answer themselves, as its handlers do. */
#ifndef LB_AGENT_TRAINING_REQUESTS_H
#define LB_AGENT_TRAINING_REQUESTS_H

#include "deployment.h"
#include "frames.h"

int train_begin_request(struct deployment *deployment, const struct request *request, struct failure *failure);
int train_batch_request(struct deployment *deployment, const struct request *request, struct failure *failure);
int train_export_request(struct deployment *deployment, const struct request *request, struct failure *failure);

#endif
