--- cairo: the graphics library, through FFI. Loaded when the first figure is made; without it everything else works.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local system = require 'masked_torch.native.system'

local cairo = {}

-- Pointers only; cairo_text_extents_t is filled by reference.
local declarations = [[
typedef struct _cairo_surface cairo_surface_t;
typedef struct _cairo cairo_t;
typedef struct _cairo_pattern cairo_pattern_t;
typedef struct _cairo_font_options cairo_font_options_t;
typedef struct { double x_bearing, y_bearing, width, height, x_advance, y_advance; } cairo_text_extents_t;
cairo_surface_t *cairo_image_surface_create(int format, int width, int height);
cairo_surface_t *cairo_image_surface_create_from_png(const char *path);
cairo_surface_t *cairo_svg_surface_create(const char *path, double width, double height);
cairo_surface_t *cairo_pdf_surface_create(const char *path, double width, double height);
unsigned char *cairo_image_surface_get_data(cairo_surface_t *);
int cairo_image_surface_get_stride(cairo_surface_t *);
int cairo_image_surface_get_width(cairo_surface_t *);
int cairo_image_surface_get_height(cairo_surface_t *);
void cairo_surface_flush(cairo_surface_t *);
void cairo_surface_mark_dirty(cairo_surface_t *);
void cairo_surface_finish(cairo_surface_t *);
void cairo_surface_destroy(cairo_surface_t *);
int cairo_surface_status(cairo_surface_t *);
int cairo_surface_write_to_png(cairo_surface_t *, const char *path);
const char *cairo_status_to_string(int status);
cairo_t *cairo_create(cairo_surface_t *);
void cairo_destroy(cairo_t *);
int cairo_status(cairo_t *);
void cairo_save(cairo_t *);
void cairo_restore(cairo_t *);
void cairo_scale(cairo_t *, double, double);
void cairo_translate(cairo_t *, double, double);
void cairo_rotate(cairo_t *, double);
void cairo_set_source_rgba(cairo_t *, double, double, double, double);
void cairo_set_source_surface(cairo_t *, cairo_surface_t *, double, double);
cairo_pattern_t *cairo_get_source(cairo_t *);
void cairo_pattern_set_filter(cairo_pattern_t *, int filter);
void cairo_set_antialias(cairo_t *, int antialias);
void cairo_set_line_width(cairo_t *, double);
void cairo_set_line_join(cairo_t *, int);
void cairo_set_line_cap(cairo_t *, int);
void cairo_set_dash(cairo_t *, const double *, int, double);
void cairo_paint(cairo_t *);
void cairo_rectangle(cairo_t *, double, double, double, double);
void cairo_arc(cairo_t *, double, double, double, double, double);
void cairo_clip(cairo_t *);
void cairo_fill(cairo_t *);
void cairo_stroke(cairo_t *);
void cairo_move_to(cairo_t *, double, double);
void cairo_line_to(cairo_t *, double, double);
void cairo_new_path(cairo_t *);
void cairo_select_font_face(cairo_t *, const char *family, int slant, int weight);
void cairo_set_font_size(cairo_t *, double);
void cairo_show_text(cairo_t *, const char *);
void cairo_text_extents(cairo_t *, const char *, cairo_text_extents_t *);
cairo_font_options_t *cairo_font_options_create(void);
void cairo_font_options_destroy(cairo_font_options_t *);
void cairo_font_options_set_antialias(cairo_font_options_t *, int);
void cairo_font_options_set_hint_style(cairo_font_options_t *, int);
void cairo_font_options_set_hint_metrics(cairo_font_options_t *, int);
void cairo_set_font_options(cairo_t *, const cairo_font_options_t *);
]]

local library

--- cairo.open([names]): the library's functions, or an error that says how to get it.
function cairo.open(names)
  if library and not names then return library end
  if not pcall(ffi.typeof, 'cairo_surface_t') then ffi.cdef(declarations) end
  local found, reason = system.open(names or { 'libcairo.so.2', 'cairo' })
  if found then
    library = found
    return library
  end
  native.fail('plot: the graphics library Cairo could not be loaded (%s). Figures need it, everything else works without. ' ..
    'Debian, Ubuntu: apt install libcairo2; Fedora: dnf install cairo; Arch: pacman -S cairo', reason)
end

--- Raises an error for a status other than success.
function cairo.check(status, what)
  if status ~= 0 then native.fail('%s: %s', what, ffi.string(library.cairo_status_to_string(status))) end
end

return cairo
