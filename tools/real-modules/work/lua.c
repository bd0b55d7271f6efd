/* Lua: every script of scripts/lua, whose `print` is ours, so that all it says is compared. */
#include "work.h"

#include <dirent.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

const char unit[] = "lines printed by scripts";

static uint64_t hash, lines;
static __typeof__(luaL_tolstring) *tolstring;
static __typeof__(lua_settop) *settop;
static __typeof__(lua_gettop) *gettop;
static __typeof__(lua_error) *raise_error;
static __typeof__(lua_pushstring) *pushstring;

static int print(lua_State *state) {
    int arguments = gettop(state);
    for (int i = 1; i <= arguments; i++) {
        size_t length;
        const char *text = tolstring(state, i, &length);
        hash = mix_number(mix(hash, text, length), (uint64_t)i);
        if (getenv("REAL_MODULES_SHOW")) printf("%s%c", text, i == arguments ? '\n' : '\t');
        settop(state, -2);
    }
    lines++;
    return 0;
}

/* A host function that leaves by longjmp, through the library's frames and its own. */
static int refuse(lua_State *state) {
    pushstring(state, "refused by the host");
    return raise_error(state);
}

static int is_script(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".lua") == 0;
}

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)library;
    FIND(luaL_newstate); FIND(luaL_openlibs); FIND(luaL_loadbufferx); FIND(lua_pcallk); FIND(lua_tolstring); FIND(lua_close);
    FIND(lua_pushcclosure); FIND(lua_setglobal); FIND(lua_gc);
    tolstring = (__typeof__(tolstring))find("luaL_tolstring");
    settop = (__typeof__(settop))find("lua_settop");
    gettop = (__typeof__(gettop))find("lua_gettop");
    raise_error = (__typeof__(raise_error))find("lua_error");
    pushstring = (__typeof__(pushstring))find("lua_pushstring");
    hash = lines = 0;

    char folder[4096];
    snprintf(folder, sizeof folder, "%s/lua", scripts);
    struct dirent **entries;
    int count = scandir(folder, &entries, is_script, alphasort);
    CHECK(count > 0);
    for (int i = 0; i < count; i++) {
        size_t length;
        char *source = read_file(folder, entries[i]->d_name, &length);
        lua_State *state = luaL_newstate_();
        CHECK(state);
        luaL_openlibs_(state);
        lua_pushcclosure_(state, print, 0);
        lua_setglobal_(state, "print");
        lua_pushcclosure_(state, refuse, 0);
        lua_setglobal_(state, "refuse");
        if (luaL_loadbufferx_(state, source, length, entries[i]->d_name, "t") || lua_pcallk_(state, 0, 0, 0, 0, 0)) {
            fprintf(stderr, "%s\n", lua_tolstring_(state, -1, 0));
            _Exit(1);
        }
        /* It is variadic, which Mach-O modules pass otherwise: but nothing is passed. */
        CHECK(lua_gc_(state, LUA_GCCOLLECT) == 0);
        lua_close_(state);
        free(source);
        free(entries[i]);
    }
    free(entries);
    return (struct outcome){hash, lines};
}
