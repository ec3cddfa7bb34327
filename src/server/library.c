#include "server/library.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"
#include "server/log.h"

#define DEPTH_MAX 3        /* folders below one that was given */
#define ENTRIES_MAX 200000 /* names that are looked at */
#define MODELS_MAX 20000   /* files that are listed */
#define FOLDERS_MAX 4096   /* that are searched */
#define REJECTED_MAX 256   /* files that are looked at again, whether they have become models */
#define NAME_BYTES 255     /* of a model, or a file */
#define OTHERS_MAX 1000    /* models that are called by their folders */
#define ROOTS_MAX 4096     /* folders and files that were given */
#define NOTES_MAX ((size_t)16 << 10)
#define PATH_BYTES 2048 /* of a folder, from the one that was given */

/* A time of modification is trusted when it is so old: clocks of file systems tick in steps of up
 * to two seconds, and what comes within the same step does not show. Until then it is looked again,
 * but not more often than this. */
#define SETTLED_S 3
#define AGAIN_NS UINT64_C(250000000)

struct root {
    char *path;
    char *file; /* the one that was given; NULL: all of the folder */
};

/* A folder that was searched, as it was then. */
struct searched {
    uint32_t root;
    char *path;          /* from the root; "" is the root */
    int64_t modified_ns; /* INT64_MIN: it was not there */
};

struct listed {
    struct library_model model; /* first: models are found by it */
    uint32_t root;
    char *path, *file; /* the folder, from the root; of the first part */
    char *name;
    size_t order, searched; /* in which it was found, and where */
};

/* A file that has a model's name but is none, yet. */
struct rejected {
    uint32_t searched;
    char *file;
    struct os_entry entry;
};

struct list {
    struct listed **models;    /* by name, at last */
    struct listed **by_folder; /* the same, as they were found */
    size_t count, capacity;
    struct searched *searched;
    size_t searched_count, searched_capacity;
    struct rejected *rejected;
    size_t rejected_count, rejected_capacity;
    bool unsettled;      /* something changed right before it was made */
    struct buffer notes; /* what was left out and why, a sentence a line */
};

struct library {
    struct root *roots;
    size_t root_count;
    struct log *log;
    struct list list;
    char *told; /* the notes that are in the log */
    uint64_t scanned_ns;
};

/* One search of all folders. */
struct scan {
    struct library *library;
    struct list list;
    size_t entries;
    bool failed;           /* without memory */
    bool crowded;          /* there are too many folders */
    struct listed **by_id; /* of the last search: what is known to begin as GGUF does */
    size_t by_id_count;
};

char library_fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int compare_folded(const char *a, const char *b)
{
    while (*a && library_fold(*a) == library_fold(*b)) {
        a++;
        b++;
    }
    return (unsigned char)library_fold(*a) - (unsigned char)library_fold(*b);
}

static bool ends_folded(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && compare_folded(text + size - end_size, end) == 0;
}

static bool has_folded(const char *text, const char *part)
{
    for (size_t size = strlen(part); *text; text++) {
        size_t n = 0;
        while (n < size && library_fold(text[n]) == part[n])
            n++;
        if (n == size)
            return true;
    }
    return false;
}

static char *copy_text(const char *text, size_t size)
{
    char *copy = mem_alloc(size + 1);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    return copy;
}

/* Room for one more item; NULL without memory. */
static void *widen(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    size_t wider = *capacity + *capacity / 2 + 16;
    void *widened = mem_realloc_array(items, wider, size);
    if (widened)
        *capacity = wider;
    return widened;
}

/* ---- lists ---- */

static void listed_free(struct listed *listed)
{
    if (!listed)
        return;
    mem_free(listed->path);
    mem_free(listed->file);
    mem_free(listed->name);
    mem_free(listed);
}

static void list_finish(struct list *list)
{
    for (size_t i = 0; i < list->count; i++)
        listed_free(list->models[i]);
    for (size_t i = 0; i < list->searched_count; i++)
        mem_free(list->searched[i].path);
    for (size_t i = 0; i < list->rejected_count; i++)
        mem_free(list->rejected[i].file);
    mem_free(list->models);
    mem_free(list->by_folder);
    mem_free(list->searched);
    mem_free(list->rejected);
    buffer_finish(&list->notes);
    *list = (struct list){0};
}

/* ---- names of files ---- */

struct file_name {
    size_t stem;          /* bytes of the name that the model has */
    uint32_t part, parts; /* 0: it is whole */
    size_t digits;        /* where the part's number stands */
};

static bool read_digits(const char *text, uint32_t *number)
{
    *number = 0;
    for (size_t i = 0; i < 5; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *number = *number * 10 + (uint32_t)(text[i] - '0');
    }
    return true;
}

/* False for names that no model has. */
static bool read_name(const char *file, struct file_name *out)
{
    static const char pattern[] = "-00001-of-00001";
    size_t size = strlen(file), tail = sizeof pattern - 1;
    if (!ends_folded(file, ".gguf") || has_folded(file, "mmproj"))
        return false;
    *out = (struct file_name){.stem = size - 5};
    const char *end = file + out->stem;
    uint32_t part, parts;
    if (out->stem > tail && end[-15] == '-' && memcmp(end - 9, "-of-", 4) == 0 &&
        read_digits(end - 14, &part) && read_digits(end - 5, &parts) && part >= 1 &&
        part <= parts) {
        out->part = part;
        out->parts = parts;
        out->stem -= tail;
        out->digits = out->stem + 1;
    }
    return out->stem > 0;
}

static void name_part(char *file, const struct file_name *name, uint32_t part)
{
    char digits[16];
    snprintf(digits, sizeof digits, "%05u", (unsigned)part);
    memcpy(file + name->digits, digits, 5);
}

/* A name that can be said in JSON, in a log and on a terminal. */
static bool is_clean(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    return utf8_valid(text, size);
}

/* ---- keys ---- */

static void add_part(struct sum *sum, struct listed *listed, const struct os_entry *entry)
{
    uint64_t words[4] = {entry->id.device, entry->id.inode, entry->size,
                         (uint64_t)entry->modified_ns};
    int64_t seconds = entry->modified_ns / 1000000000;
    sum_add(sum, words, sizeof words);
    listed->model.bytes += entry->size;
    if (listed->model.modified_unix < seconds)
        listed->model.modified_unix = seconds;
}

/* Looks at all parts in their folder and fills what is known of the files. False without memory. */
static bool look_at_parts(struct listed *listed, int folder, struct file_name *name)
{
    struct sum *sum = sum_create();
    struct os_entry entry;
    char file[NAME_BYTES + 1];
    if (!sum)
        return false;
    snprintf(file, sizeof file, "%s", listed->file);
    listed->model.parts = name->part ? name->parts : 1;
    for (uint32_t i = 1; i <= listed->model.parts; i++) {
        if (name->part)
            name_part(file, name, i);
        if (!os_folder_entry(folder, file, &entry) || entry.kind != OS_ENTRY_FILE) {
            listed->model.missing_part = i;
            break;
        }
        if (i == 1)
            listed->model.id = entry.id;
        add_part(sum, listed, &entry);
    }
    sum_get(sum, listed->model.key.sum);
    sum_destroy(sum);
    return true;
}

/* ---- a search ---- */

static void note(struct scan *scan, const char *format, ...) PRINTF_LIKE(2, 3);
static void note(struct scan *scan, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* what does not fit into the notes is left out */
    if (scan->list.notes.size + strlen(line) + 1 < NOTES_MAX)
        buffer_format(&scan->list.notes, "%s\n", line);
}

static int compare_ids(const void *a, const void *b)
{
    const struct listed *one = *(struct listed *const *)a, *other = *(struct listed *const *)b;
    if (one->model.id.inode != other->model.id.inode)
        return one->model.id.inode < other->model.id.inode ? -1 : 1;
    return one->model.id.device < other->model.id.device
               ? -1
               : one->model.id.device > other->model.id.device;
}

/* Whether it was seen before, and is as it was. */
static bool was_known(const struct scan *scan, const struct listed *listed)
{
    const struct listed *const *found =
        scan->by_id_count
            ? bsearch(&listed, scan->by_id, scan->by_id_count, sizeof *scan->by_id, compare_ids)
            : NULL;
    return found && memcmp(&(*found)->model.key, &listed->model.key, sizeof listed->model.key) == 0;
}

static bool begins_as_gguf(int folder, const char *file)
{
    char magic[4];
    int fd;
    if (os_folder_open_entry(folder, file, &fd, NULL) != 0)
        return false;
    bool is = os_file_read_at(fd, magic, sizeof magic, 0, NULL) == 0 &&
              memcmp(magic, "GGUF", sizeof magic) == 0;
    os_file_close(fd);
    return is;
}

static void reject(struct scan *scan, int folder, const char *file)
{
    struct list *list = &scan->list;
    struct os_entry entry;
    if (list->rejected_count == REJECTED_MAX || !os_folder_entry(folder, file, &entry))
        return;
    struct rejected *items =
        widen(list->rejected, list->rejected_count, &list->rejected_capacity, sizeof *items);
    char *copy = copy_text(file, strlen(file));
    if (items)
        list->rejected = items;
    if (!items || !copy) {
        mem_free(copy);
        scan->failed = true;
        return;
    }
    items[list->rejected_count++] = (struct rejected){
        .searched = (uint32_t)list->searched_count - 1, .file = copy, .entry = entry};
}

static void add_listed(struct scan *scan, struct listed *listed)
{
    struct list *list = &scan->list;
    struct listed **models = widen(list->models, list->count, &list->capacity, sizeof *models);
    if (!models) {
        listed_free(listed);
        scan->failed = true;
        return;
    }
    list->models = models;
    listed->order = list->count;
    listed->searched = list->searched_count - 1;
    models[list->count++] = listed;
}

/* A file whose name is a model's. */
static void examine(struct scan *scan, uint32_t root, int folder, const char *path,
                    const char *file, struct file_name *name)
{
    struct listed *listed = MEM_NEW(struct listed);
    if (!listed) {
        scan->failed = true;
        return;
    }
    listed->root = root;
    listed->path = copy_text(path, strlen(path));
    listed->file = copy_text(file, strlen(file));
    listed->name = copy_text(file, name->stem);
    if (!listed->path || !listed->file || !listed->name || !look_at_parts(listed, folder, name)) {
        scan->failed = true;
        listed_free(listed);
        return;
    }
    bool is_one = listed->model.missing_part != 1 &&
                  (was_known(scan, listed) || begins_as_gguf(folder, file));
    if (is_one) {
        add_listed(scan, listed);
        return;
    }
    reject(scan, folder, file);
    listed_free(listed);
}

/* What a folder has, sorted: the same folder gives the same list. */
struct names {
    char **items;
    size_t count, capacity, left; /* how many more may be taken */
    bool failed;
};

static bool take_name(void *context, const char *name)
{
    struct names *names = context;
    if (name[0] == '.')
        return true;
    if (names->left == 0)
        return false;
    char **items = widen(names->items, names->count, &names->capacity, sizeof *items);
    char *copy = copy_text(name, strlen(name));
    if (items)
        names->items = items;
    if (!items || !copy) {
        mem_free(copy);
        names->failed = true;
        return false;
    }
    items[names->count++] = copy;
    names->left--;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_finish(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        mem_free(names->items[i]);
    mem_free(names->items);
}

/* Remembers a folder as it is before it is read; false where it is not to be read. */
static bool begin_folder(struct scan *scan, uint32_t root, const char *path, int folder)
{
    struct list *list = &scan->list;
    struct os_entry entry = {.modified_ns = INT64_MIN};
    if (list->searched_count == FOLDERS_MAX) {
        if (!scan->crowded)
            note(scan, "there are more than %d folders: the rest is not looked at", FOLDERS_MAX);
        scan->crowded = true;
        return false;
    }
    struct searched *items =
        widen(list->searched, list->searched_count, &list->searched_capacity, sizeof *items);
    char *copy = copy_text(path, strlen(path));
    if (items)
        list->searched = items;
    if (!items || !copy) {
        mem_free(copy);
        scan->failed = true;
        return false;
    }
    if (folder >= 0 && os_file_entry(folder, &entry) &&
        entry.modified_ns / 1000000000 + SETTLED_S >= os_unix_seconds())
        list->unsettled = true;
    items[list->searched_count++] =
        (struct searched){.root = root, .path = copy, .modified_ns = entry.modified_ns};
    return true;
}

static void look_at_files(struct scan *scan, uint32_t root, int folder, const char *path,
                          const struct names *names)
{
    size_t unclean = 0, too_many = 0;
    for (size_t i = 0; i < names->count && !scan->failed; i++) {
        struct file_name name;
        const char *file = names->items[i];
        if (!read_name(file, &name) || name.part > 1)
            continue;
        if (!is_clean(file, strlen(file)))
            unclean++;
        else if (scan->list.count == MODELS_MAX || name.parts > LIBRARY_PARTS_MAX)
            too_many++;
        else
            examine(scan, root, folder, path, file, &name);
    }
    if (unclean)
        note(scan, "%zu models have names with control characters or invalid UTF-8", unclean);
    if (too_many)
        note(scan, "%zu models have more than %d parts, or are more than %d", too_many,
             LIBRARY_PARTS_MAX, MODELS_MAX);
}

static void search(struct scan *scan, uint32_t root, int folder, const char *path, unsigned depth);

static void search_below(struct scan *scan, uint32_t root, int folder, const char *path,
                         unsigned depth, const char *name)
{
    char below[PATH_BYTES];
    struct os_entry entry;
    int fd;
    if (ends_folded(name, ".gguf") || !os_folder_entry(folder, name, &entry) ||
        entry.kind != OS_ENTRY_FOLDER ||
        snprintf(below, sizeof below, "%s%s%s", path, *path ? "/" : "", name) >= (int)sizeof below)
        return;
    if (os_folder_open_to_read(folder, name, &fd, NULL) != 0)
        return;
    search(scan, root, fd, below, depth + 1);
    os_file_close(fd);
}

/* Recursion of DEPTH_MAX. */
static void search(struct scan *scan, uint32_t root, int folder, const char *path, unsigned depth)
{
    struct names names = {.left = ENTRIES_MAX - scan->entries};
    if (!begin_folder(scan, root, path, folder))
        return;
    if (os_folder_list(folder, take_name, &names, NULL) != 0)
        note(scan, "a folder cannot be read");
    if (names.count > 1)
        qsort(names.items, names.count, sizeof *names.items, compare_names);
    scan->failed = scan->failed || names.failed;
    scan->entries += names.count;
    if (scan->entries == ENTRIES_MAX)
        note(scan, "there are more than %d files: the rest is not looked at", ENTRIES_MAX);
    look_at_files(scan, root, folder, path, &names);
    for (size_t i = 0; i < names.count && depth < DEPTH_MAX && !scan->failed; i++)
        search_below(scan, root, folder, path, depth, names.items[i]);
    names_finish(&names);
}

/* The file that was given: whatever it is called, if it is one. */
static void search_file(struct scan *scan, uint32_t root, int folder)
{
    const char *file = scan->library->roots[root].file;
    struct file_name name;
    if (!begin_folder(scan, root, "", folder))
        return;
    if (!read_name(file, &name))
        name = (struct file_name){.stem = strlen(file)};
    examine(scan, root, folder, "", file, &name);
}

static void search_root(struct scan *scan, uint32_t root)
{
    int folder;
    if (os_folder_open_to_read(-1, scan->library->roots[root].path, &folder, NULL) != 0) {
        begin_folder(scan, root, "", -1);
        note(scan, "folder %u of those with models is not there", (unsigned)root + 1);
        return;
    }
    if (scan->library->roots[root].file)
        search_file(scan, root, folder);
    else
        search(scan, root, folder, "", 0);
    os_file_close(folder);
}

/* ---- names of models ---- */

static int compare_listed(const void *a, const void *b)
{
    const struct listed *one = *(struct listed *const *)a, *other = *(struct listed *const *)b;
    return compare_folded(one->name, other->name);
}

static int compare_orders(const void *a, const void *b)
{
    const struct listed *one = *(struct listed *const *)a, *other = *(struct listed *const *)b;
    return (one->order > other->order) - (one->order < other->order);
}

/* Of equal names the first that was found comes first. */
static int compare_found(const void *a, const void *b)
{
    int order = compare_listed(a, b);
    return order != 0 ? order : compare_orders(a, b);
}

/* Where a name is in a sorted list, or would be. */
static size_t place_of(const struct list *list, const char *name, bool *there)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_folded(list->models[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *there = low < list->count && compare_folded(list->models[low]->name, name) == 0;
    return low;
}

/* Its name behind so many of the folders that it lies in. NULL where there are not so many, or it
 * would be no name. */
static char *name_with_folders(const struct library *library, const struct listed *listed,
                               unsigned folders)
{
    char whole[2 * PATH_BYTES], named[2 * PATH_BYTES];
    const char *root = library->roots[listed->root].path, *end = root + strlen(root);
    while (end > root && end[-1] == '/')
        end--;
    const char *begin = end;
    while (begin > root && begin[-1] != '/')
        begin--;
    if (*begin == '.')
        begin = end; /* no name: "." and the like */
    int size = snprintf(whole, sizeof whole, "%.*s%s%s", (int)(end - begin), begin,
                        *listed->path ? "/" : "", listed->path);
    if (size <= 0 || size >= (int)sizeof whole)
        return NULL;
    const char *from = whole + size + 1; /* behind the slash that would follow */
    for (unsigned i = 0; i < folders; i++) {
        if (from == whole)
            return NULL;
        from--;
        while (from > whole && from[-1] != '/')
            from--;
    }
    size = snprintf(named, sizeof named, "%s/%s", from, listed->name);
    if (*from == '/' || size > NAME_BYTES || !is_clean(named, (size_t)size))
        return NULL;
    return copy_text(named, (size_t)size);
}

/* A place in the sorted list under another name; false where there is none. */
static bool place_other(struct scan *scan, struct listed *listed)
{
    struct list *list = &scan->list;
    for (unsigned folders = 1; folders <= DEPTH_MAX + 1; folders++) {
        bool there;
        char *name = name_with_folders(scan->library, listed, folders);
        size_t place = name ? place_of(list, name, &there) : 0;
        if (!name || there) {
            mem_free(name);
            continue;
        }
        note(scan, "two models are called %s: one of them is %s", listed->name, name);
        mem_free(listed->name);
        listed->name = name;
        memmove(&list->models[place + 1], &list->models[place],
                (list->count - place) * sizeof(struct listed *));
        list->models[place] = listed;
        list->count++;
        return true;
    }
    return false;
}

/* Sorts the list. Of models with one name the first keeps it. The others, if they are not the same
 * file once more, are called by their folders, too. */
static void name_models(struct scan *scan)
{
    struct list *list = &scan->list;
    size_t count = list->count, kept = 0, others = 0;
    struct listed **models = list->models, **other = mem_alloc_array(count, sizeof *other);
    if (!other) {
        scan->failed = true;
        return;
    }
    if (count > 1)
        qsort(models, count, sizeof(struct listed *), compare_found);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || compare_listed(&models[kept - 1], &models[i]) != 0)
            models[kept++] = models[i];
        else if (compare_ids(&models[kept - 1], &models[i]) != 0 && others < OTHERS_MAX)
            other[others++] = models[i];
        else
            listed_free(models[i]);
    }
    list->count = kept;
    for (size_t i = 0; i < others; i++) {
        if (place_other(scan, other[i]))
            continue;
        note(scan, "two models are called %s: the second is left out", other[i]->name);
        listed_free(other[i]);
    }
    for (size_t i = 0; i < list->count; i++)
        list->models[i]->model.name = list->models[i]->name;
    list->by_folder = other;
    if (list->count > 0)
        memcpy(other, list->models, list->count * sizeof *other);
    if (list->count > 1)
        qsort(other, list->count, sizeof *other, compare_orders);
}

/* ---- the library ---- */

static void tell_notes(struct library *library)
{
    const char *notes = library->list.notes.data ? library->list.notes.data : "";
    if (library->told && strcmp(library->told, notes) == 0)
        return;
    mem_free(library->told);
    library->told = copy_text(notes, strlen(notes));
    while (*notes) {
        const char *end = strchr(notes, '\n');
        log_line(library->log, LOG_WARNING, 0, "models", "note=\"%.*s\"", (int)(end - notes),
                 notes);
        notes = end + 1;
    }
}

/* Searches everything and takes the result, or keeps what it has where there is no memory. */
static bool scan_all(struct library *library)
{
    struct scan scan = {.library = library};
    const struct list *old = &library->list;
    buffer_init(&scan.list.notes, NOTES_MAX);
    scan.by_id = mem_alloc_array(old->count, sizeof *scan.by_id);
    if (scan.by_id && old->count) {
        memcpy(scan.by_id, old->models, old->count * sizeof *scan.by_id);
        scan.by_id_count = old->count;
        qsort(scan.by_id, scan.by_id_count, sizeof *scan.by_id, compare_ids);
    }
    for (uint32_t root = 0; root < library->root_count && !scan.failed; root++)
        search_root(&scan, root);
    mem_free(scan.by_id);
    if (!scan.failed)
        name_models(&scan);
    if (scan.failed) {
        list_finish(&scan.list);
        return false;
    }
    list_finish(&library->list);
    library->list = scan.list;
    library->scanned_ns = os_monotonic_ns();
    tell_notes(library);
    return true;
}

static int add_root(struct library *library, const char *path, bool is_file,
                    struct hearth_error *err)
{
    const char *slash = is_file ? strrchr(path, '/') : NULL;
    struct root root = {0};
    if (!is_file)
        root.path = copy_text(path, strlen(path));
    else if (!slash)
        root.path = copy_text(".", 1);
    else
        root.path = copy_text(path, slash == path ? 1 : (size_t)(slash - path));
    if (is_file)
        root.file = copy_text(slash ? slash + 1 : path, strlen(slash ? slash + 1 : path));
    if (!root.path || (is_file && !root.file)) {
        mem_free(root.path);
        mem_free(root.file);
        return error_set(err, HEARTH_E_MEMORY, "no memory for the list of models");
    }
    library->roots[library->root_count++] = root;
    return 0;
}

/* Whether a file or a folder that was given can be used. */
static int check_root(const struct root *root, struct hearth_error *err)
{
    int folder, file;
    int status = os_folder_open_to_read(-1, root->path, &folder, err);
    if (status)
        return error_prefix(err, status, "%s", root->path);
    if (!root->file) {
        os_file_close(folder);
        return 0;
    }
    status = os_folder_open_entry(folder, root->file, &file, err);
    if (!status)
        os_file_close(file);
    if (!status && !begins_as_gguf(folder, root->file))
        status = error_set(err, HEARTH_E_FORMAT, "is no GGUF file");
    if (!status && !is_clean(root->file, strlen(root->file)))
        status = error_set(err, HEARTH_E_ARGUMENT, "is no name that a model can have");
    os_file_close(folder);
    bool here = strcmp(root->path, ".") == 0, top = strcmp(root->path, "/") == 0;
    return status ? error_prefix(err, status, "%s%s%s", here || top ? "" : root->path,
                                 here ? "" : "/", root->file)
                  : 0;
}

static int open_roots(struct library *library, const struct library_options *options,
                      struct hearth_error *err)
{
    int status = 0;
    library->roots =
        mem_zalloc_array(options->folder_count + options->file_count, sizeof *library->roots);
    if (!library->roots)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the list of models");
    for (size_t i = 0; i < options->file_count && !status; i++)
        status = add_root(library, options->files[i], true, err);
    for (size_t i = 0; i < options->folder_count && !status; i++)
        status = add_root(library, options->folders[i], false, err);
    for (size_t i = 0; i < library->root_count && !status; i++)
        status = check_root(&library->roots[i], err);
    return status;
}

/* The first root with the same file as the last one, which may be itself. */
static uint32_t find_last_root(const struct library *library)
{
    size_t last = library->root_count - 1, i = 0;
    const struct root *sought = &library->roots[last];
    while (i < last &&
           (!library->roots[i].file || strcmp(library->roots[i].file, sought->file) != 0 ||
            strcmp(library->roots[i].path, sought->path) != 0))
        i++;
    return (uint32_t)i;
}

static void drop_last_root(struct library *library)
{
    struct root *root = &library->roots[--library->root_count];
    mem_free(root->path);
    mem_free(root->file);
}

static int make_room_for_root(struct library *library, struct hearth_error *err)
{
    if (library->root_count >= ROOTS_MAX)
        return error_set(err, HEARTH_E_LIMIT, "more than %d folders and files", ROOTS_MAX);
    struct root *roots = mem_alloc_array(library->root_count + 1, sizeof *roots);
    if (!roots)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the list of models");
    if (library->root_count > 0)
        memcpy(roots, library->roots, library->root_count * sizeof *roots);
    mem_free(library->roots);
    library->roots = roots;
    return 0;
}

/* The model that the file of a root is in, be it under the name that another root gave it. */
static const struct library_model *model_of_root(const struct library *library, uint32_t index)
{
    const struct root *root = &library->roots[index];
    struct os_entry entry;
    int folder;
    if (os_folder_open_to_read(-1, root->path, &folder, NULL) != 0)
        return NULL;
    bool there = os_folder_entry(folder, root->file, &entry);
    os_file_close(folder);
    const struct listed *same = NULL;
    for (size_t i = 0; i < library->list.count && there; i++) {
        const struct listed *listed = library->list.models[i];
        if (listed->root == index)
            return &listed->model;
        if (listed->model.id.inode == entry.id.inode && listed->model.id.device == entry.id.device)
            same = listed;
    }
    return same ? &same->model : NULL;
}

int library_add_file(struct library *library, const char *path, const struct library_model **out,
                     struct hearth_error *err)
{
    uint32_t index;
    if (path[0] != '/')
        return error_set(err, HEARTH_E_ARGUMENT, "a model's path must be absolute");
    int status = make_room_for_root(library, err);
    if (!status)
        status = add_root(library, path, true, err);
    if (status)
        return status;
    index = find_last_root(library);
    if (index + 1 < library->root_count) {
        drop_last_root(library);
        library_refresh(library);
    } else {
        status = check_root(&library->roots[index], err);
        if (!status && !scan_all(library))
            status = error_set(err, HEARTH_E_MEMORY, "no memory for the list of models");
        if (status) {
            drop_last_root(library);
            return status;
        }
    }
    *out = model_of_root(library, index);
    return *out ? 0 : error_set(err, HEARTH_E_MISSING, "%s is no model that can be loaded", path);
}

int library_open(const struct library_options *options, struct library **out,
                 struct hearth_error *err)
{
    struct library *library = MEM_NEW(struct library);
    if (!library)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the list of models");
    library->log = options->log;
    int status = open_roots(library, options, err);
    if (!status && !scan_all(library))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for the list of models");
    if (status) {
        library_close(library);
        return status;
    }
    *out = library;
    return 0;
}

void library_close(struct library *library)
{
    if (!library)
        return;
    list_finish(&library->list);
    for (size_t i = 0; i < library->root_count; i++) {
        mem_free(library->roots[i].path);
        mem_free(library->roots[i].file);
    }
    mem_free(library->roots);
    mem_free(library->told);
    mem_free(library);
}

/* ---- opening ---- */

/* Opens a folder of a root, name by name: no symbolic link leads out of it. */
static int open_folder(const struct library *library, uint32_t root, const char *path, int *out,
                       struct hearth_error *err)
{
    int folder;
    int status = os_folder_open_to_read(-1, library->roots[root].path, &folder, err);
    while (!status && *path) {
        char name[NAME_BYTES + 1];
        size_t size = strcspn(path, "/");
        int below = -1;
        if (size >= sizeof name) {
            os_file_close(folder);
            return error_set(err, HEARTH_E_MISSING, "a folder's name is too long");
        }
        memcpy(name, path, size);
        name[size] = '\0';
        status = os_folder_open_to_read(folder, name, &below, err);
        os_file_close(folder);
        folder = below;
        path += size + (path[size] == '/');
    }
    if (!status)
        *out = folder;
    return status;
}

/* Looks at the parts, or opens them where `fds` is not NULL; they are closed again on failure. */
static int visit_parts(const struct listed *listed, int folder, int *fds, struct library_key *key,
                       struct hearth_error *err)
{
    char file[NAME_BYTES + 1];
    struct file_name name = {0};
    struct listed looked = {0};
    struct os_entry entry;
    struct sum *sum = sum_create();
    int status = sum ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for a model's name");
    uint32_t opened = 0;
    snprintf(file, sizeof file, "%s", listed->file);
    read_name(file, &name);
    for (uint32_t i = 1; i <= listed->model.parts && !status; i++) {
        if (name.part)
            name_part(file, &name, i);
        if (fds)
            status = os_folder_open_entry(folder, file, &fds[opened], err);
        opened += fds && !status;
        if (!status && (fds ? !os_file_entry(fds[opened - 1], &entry)
                            : !os_folder_entry(folder, file, &entry)))
            status = error_set(err, HEARTH_E_MISSING, "the file is no longer there");
        if (!status)
            add_part(sum, &looked, &entry);
    }
    if (!status)
        sum_get(sum, key->sum);
    for (uint32_t i = 0; i < opened && status; i++)
        os_file_close(fds[i]);
    sum_destroy(sum);
    return status;
}

static int visit_files(const struct library *library, const struct library_model *model, int *fds,
                       struct library_key *key, struct hearth_error *err)
{
    const struct listed *listed = (const struct listed *)model;
    int folder;
    if (model->missing_part)
        return error_set(err, HEARTH_E_MISSING, "part %u of %u is missing",
                         (unsigned)model->missing_part, (unsigned)model->parts);
    int status = open_folder(library, listed->root, listed->path, &folder, err);
    if (status)
        return status;
    status = visit_parts(listed, folder, fds, key, err);
    os_file_close(folder);
    return status;
}

bool library_is_current(const struct library *library, const struct library_model *model)
{
    struct library_key key;
    if (visit_files(library, model, NULL, &key, NULL) != 0)
        return false;
    return memcmp(&key, &model->key, sizeof key) == 0;
}

int library_open_files(const struct library *library, const struct library_model *model,
                       int fds[LIBRARY_PARTS_MAX], struct library_key *key,
                       struct hearth_error *err)
{
    return visit_files(library, model, fds, key, err);
}

/* ---- looking again ---- */

static bool is_same(const struct os_entry *a, const struct os_entry *b)
{
    return a->kind == b->kind && a->size == b->size && a->modified_ns == b->modified_ns &&
           a->id.device == b->id.device && a->id.inode == b->id.inode;
}

static bool rejected_changed(const struct list *list, size_t searched, int folder)
{
    struct os_entry entry;
    for (size_t i = 0; i < list->rejected_count; i++) {
        const struct rejected *rejected = &list->rejected[i];
        if (rejected->searched == searched && (!os_folder_entry(folder, rejected->file, &entry) ||
                                               !is_same(&entry, &rejected->entry)))
            return true;
    }
    return false;
}

/* Whether what a folder lists is another list, or other files. `next` is the first of its files
 * among those in the order in which they were found. */
static bool folder_changed(const struct library *library, size_t index, size_t *next)
{
    const struct list *list = &library->list;
    const struct searched *searched = &list->searched[index];
    struct os_entry entry = {.modified_ns = INT64_MIN};
    int folder;
    if (open_folder(library, searched->root, searched->path, &folder, NULL) != 0)
        return searched->modified_ns != INT64_MIN;
    bool changed = !os_file_entry(folder, &entry) || entry.modified_ns != searched->modified_ns ||
                   rejected_changed(list, index, folder);
    for (; *next < list->count && list->by_folder[*next]->searched == index; (*next)++) {
        struct library_key key;
        const struct listed *listed = list->by_folder[*next];
        if (!changed && !listed->model.missing_part)
            changed = visit_parts(listed, folder, NULL, &key, NULL) != 0 ||
                      memcmp(&key, &listed->model.key, sizeof key) != 0;
    }
    os_file_close(folder);
    return changed;
}

bool library_refresh(struct library *library)
{
    bool changed = library->list.unsettled && os_monotonic_ns() - library->scanned_ns >= AGAIN_NS;
    size_t next = 0;
    for (size_t i = 0; i < library->list.searched_count && !changed; i++)
        changed = folder_changed(library, i, &next);
    return changed && scan_all(library);
}

size_t library_count(const struct library *library)
{
    return library->list.count;
}

const struct library_model *library_at(const struct library *library, size_t index)
{
    assert(index < library->list.count);
    return &library->list.models[index]->model;
}
