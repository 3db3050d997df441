--- columns(lines, left): rows of cells as a table: the first `left` columns begin at the left, the others end at the right; columns with
-- nothing below their head are left out.
return function(lines, left)
  local widths, used = {}, {}
  for k, line in ipairs(lines) do
    for i, text in ipairs(line) do
      widths[i] = math.max(widths[i] or 0, #text)
      used[i] = used[i] or (k > 1 and text ~= '')
    end
  end
  local out = {}
  for k, line in ipairs(lines) do
    local cells = {}
    for i, text in ipairs(line) do
      if used[i] then
        local space = (' '):rep(widths[i] - #text)
        cells[#cells + 1] = i <= left and text .. space or space .. text
      end
    end
    out[k] = (table.concat(cells, '  '):gsub('%s+$', ''))
  end
  return table.concat(out, '\n')
end
