// mask_rows: the formulas of mask.c and mask.cu, see row.h. Internal.
MT_ROW_2(FN(mask_apply_row), REAL, REAL, REAL, b == 0 ? 0 : a * b)
MT_ROW_2(FN(mask_select_row), REAL, REAL, REAL, b == 0 ? 0 : a)
MT_ROW_2(FN(mask_unapply_row), REAL, REAL, REAL, a / (b + (REAL) * (const double *)context))
