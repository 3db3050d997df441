local check_op = require 'support.check_op'
check_op(require 'op.masked_conv_cases')
