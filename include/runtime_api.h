/* midflight: replace native code in a running process. Everything an engine includes.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef MIDFLIGHT_RUNTIME_API_H
#define MIDFLIGHT_RUNTIME_API_H

#include "runtime_types.h"
#include "runtime_core.h"
#include "hot_reload.h"
#include "transaction_manager.h"
#include "conflict_resolution.h"

#endif
