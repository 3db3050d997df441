std = 'luajit'
max_line_length = 140
ignore = { '581' }   -- not (x <= y) is not x > y where NaN is possible
files['tests/**'].std = 'luajit+busted'
files['tests/**'].ignore = { '143/assert', '212/_.*' }
exclude_files = { 'build', '.venv', 'out' }
