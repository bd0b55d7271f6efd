/* QuickJS: a program with classes, generators, promises, regular expressions, big numbers, errors, and calls back into the host. */
#include "work.h"

#include <quickjs.h>

const char unit[] = "lines printed by a program";

static uint64_t hash, lines;
static __typeof__(JS_ToCStringLen2) *to_string;
static __typeof__(JS_FreeCString) *free_string;
static __typeof__(JS_ThrowTypeError) *throw_error;

static JSValue print(JSContext *context, JSValueConst self, int count, JSValueConst *values) {
    (void)self;
    for (int i = 0; i < count; i++) {
        const char *text = to_string(context, 0, values[i], 0);
        if (!text) return JS_EXCEPTION;
        hash = mix_string(hash, text);
        if (getenv("REAL_MODULES_SHOW")) puts(text);
        free_string(context, text);
    }
    lines++;
    return JS_UNDEFINED;
}

static JSValue refuse(JSContext *context, JSValueConst self, int count, JSValueConst *values) {
    (void)self, (void)values;
    return throw_error(context, "refused with %d", count);
}

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)library;
    FIND(JS_NewRuntime); FIND(JS_FreeRuntime); FIND(JS_NewContext); FIND(JS_FreeContext); FIND(JS_Eval); FIND(JS_GetGlobalObject);
    FIND(JS_SetPropertyStr); FIND(JS_NewCFunction2); FIND(JS_ExecutePendingJob); FIND(JS_GetException); FIND(JS_RunGC);
    FIND(JS_FreeValue);
    to_string = (__typeof__(to_string))find("JS_ToCStringLen2");
    free_string = (__typeof__(free_string))find("JS_FreeCString");
    throw_error = (__typeof__(throw_error))find("JS_ThrowTypeError");
    hash = lines = 0;
    size_t length;
    char *source = read_file(scripts, "quickjs.js", &length);
    JSRuntime *runtime = JS_NewRuntime_();
    JSContext *context = JS_NewContext_(runtime);
    JSValue global = JS_GetGlobalObject_(context);
    JS_SetPropertyStr_(context, global, "print", JS_NewCFunction2_(context, print, "print", 1, JS_CFUNC_generic, 0));
    JS_SetPropertyStr_(context, global, "refuse", JS_NewCFunction2_(context, refuse, "refuse", 0, JS_CFUNC_generic, 0));
    JS_FreeValue_(context, global);
    JSValue result = JS_Eval_(context, source, length, "quickjs.js", JS_EVAL_TYPE_GLOBAL);
    if (JS_IsException(result)) {
        fprintf(stderr, "%s\n", to_string(context, 0, JS_GetException_(context), 0));
        _Exit(1);
    }
    JS_FreeValue_(context, result);
    JSContext *other;
    while (JS_ExecutePendingJob_(runtime, &other) > 0) {}
    JS_RunGC_(runtime);
    JS_FreeContext_(context);
    JS_FreeRuntime_(runtime);
    free(source);
    return (struct outcome){hash, lines};
}
