local check_op = require 'support.check_op'
check_op(require 'op.pad_cases')
