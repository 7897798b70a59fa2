// What shim.c uses of Wasmtime's C API.
//
// The bundled headers cannot be named from another module, so the prototypes
// are declared here. shim_test.go compiles shim.c against the real headers
// (LIOP_CHECK_HEADERS), so that an upgrade which changes one is noticed.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef LIOP_CHECK_HEADERS
#include <wasi.h>
#include <wasmtime.h>
#else
typedef struct wasi_config_t wasi_config_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_config_t wasm_config_t;
typedef struct wasmtime_pooling_allocation_config_t wasmtime_pooling_allocation_config_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef uint8_t wasm_valkind_t;
typedef struct wasm_byte_vec_t { size_t size; char *data; } wasm_byte_vec_t;
typedef struct wasm_valtype_vec_t { size_t size; wasm_valtype_t **data; } wasm_valtype_vec_t;
typedef struct wasmtime_memory { struct { uint64_t store_id; uint32_t private1; }; uint32_t private2; } wasmtime_memory_t;
typedef struct wasmtime_func { uint64_t store_id; void *private; } wasmtime_func_t;
typedef struct wasmtime_instance { uint64_t store_id; size_t private; } wasmtime_instance_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_extern {
	uint8_t kind;
	union { wasmtime_memory_t memory; wasmtime_func_t func; uint64_t size[3]; } of;
} wasmtime_extern_t;
typedef union wasmtime_val_raw { int32_t i32; int64_t i64; uint8_t v128[16]; } wasmtime_val_raw_t;
typedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(void *, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t);
#define WASMTIME_EXTERN_FUNC 0
#define WASMTIME_EXTERN_MEMORY 3
#endif

_Static_assert(sizeof(wasmtime_memory_t) == 24, "wasmtime_memory_t");
_Static_assert(sizeof(wasmtime_func_t) == 16, "wasmtime_func_t");
_Static_assert(sizeof(wasmtime_instance_t) == 16, "wasmtime_instance_t");
_Static_assert(sizeof(wasmtime_extern_t) == 32, "wasmtime_extern_t");
_Static_assert(offsetof(wasmtime_extern_t, of) == 8, "wasmtime_extern_t.of");
_Static_assert(sizeof(wasmtime_val_raw_t) == 16, "wasmtime_val_raw_t");
_Static_assert(sizeof(wasm_byte_vec_t) == 16, "wasm_byte_vec_t");

extern void wasm_byte_vec_new(wasm_byte_vec_t *, size_t, const char *);
extern void wasm_byte_vec_delete(wasm_byte_vec_t *);
extern void wasi_config_set_stdin_bytes(wasi_config_t *, wasm_byte_vec_t *); // takes ownership
extern wasm_valtype_t *wasm_valtype_new(wasm_valkind_t);
extern void wasm_valtype_vec_new(wasm_valtype_vec_t *, size_t, wasm_valtype_t *const[]);
extern wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *, wasm_valtype_vec_t *);
extern void wasm_functype_delete(wasm_functype_t *);
extern wasmtime_error_t *wasmtime_linker_define_func_unchecked(wasmtime_linker_t *, const char *, size_t, const char *, size_t,
	const wasm_functype_t *, wasmtime_func_unchecked_callback_t, void *, void (*)(void *));
extern wasm_trap_t *wasmtime_trap_new(const char *, size_t);
extern void wasmtime_engine_increment_epoch(wasm_engine_t *);
extern void wasmtime_error_delete(wasmtime_error_t *);
extern bool wasmtime_caller_export_get(wasmtime_caller_t *, const char *, size_t, wasmtime_extern_t *);
extern wasmtime_context_t *wasmtime_caller_context(wasmtime_caller_t *);
extern uint8_t *wasmtime_memory_data(const wasmtime_context_t *, const wasmtime_memory_t *);
extern size_t wasmtime_memory_data_size(const wasmtime_context_t *, const wasmtime_memory_t *);
extern void wasm_trap_delete(wasm_trap_t *);
extern wasmtime_linker_t *wasmtime_linker_new(wasm_engine_t *);
extern wasmtime_error_t *wasmtime_linker_define_wasi(wasmtime_linker_t *);
extern bool wasmtime_linker_get(const wasmtime_linker_t *, wasmtime_context_t *, const char *, size_t, const char *, size_t, wasmtime_extern_t *);
extern wasmtime_error_t *wasmtime_module_new(wasm_engine_t *, const uint8_t *, size_t, wasmtime_module_t **);
extern wasmtime_error_t *wasmtime_instance_new(wasmtime_context_t *, const wasmtime_module_t *, const wasmtime_extern_t *, size_t,
	wasmtime_instance_t *, wasm_trap_t **);
extern bool wasmtime_instance_export_get(wasmtime_context_t *, const wasmtime_instance_t *, const char *, size_t, wasmtime_extern_t *);
extern wasmtime_error_t *wasmtime_func_call_unchecked(wasmtime_context_t *, const wasmtime_func_t *, wasmtime_val_raw_t *, size_t, wasm_trap_t **);

#define POOL(name, type) extern void wasmtime_pooling_allocation_config_##name##_set(wasmtime_pooling_allocation_config_t *, type)
extern wasmtime_pooling_allocation_config_t *wasmtime_pooling_allocation_config_new();
extern void wasmtime_pooling_allocation_config_delete(wasmtime_pooling_allocation_config_t *);
extern void wasmtime_pooling_allocation_strategy_set(wasm_config_t *, const wasmtime_pooling_allocation_config_t *);
POOL(total_core_instances, uint32_t);
POOL(total_component_instances, uint32_t);
POOL(total_memories, uint32_t);
POOL(total_tables, uint32_t);
POOL(total_stacks, uint32_t);
POOL(max_tables_per_module, uint32_t);
POOL(table_elements, size_t);
POOL(max_core_instance_size, size_t);
POOL(linear_memory_keep_resident, size_t);
POOL(table_keep_resident, size_t);
