// loader_check: what a gather of loader.h asks of its tensors, for both libraries. Internal.
#pragma once
#include "common.h"

int mt_loader_check_gather(const mt_gather *g);
