std = 'luajit'
max_line_length = 130
files['tests/**'].std = 'luajit+busted'
files['tests/**'].ignore = { '143/assert', '212/_.*' }
exclude_files = { 'build', '.venv', 'out' }
