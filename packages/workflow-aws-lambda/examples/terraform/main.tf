# A module: one function for the schedule, the URL and the queue. docs/deploy/aws-lambda.md says how to make the zip.
#
#   module "shop" {
#     source      = "./terraform"
#     name        = "shop"
#     package     = "${path.root}/build.zip"
#     secret_name = "workflow/shop"
#   }

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "name" {
  type        = string
  description = "The name of the function, and of what belongs to it."
}

variable "package" {
  type        = string
  description = "The zip with the code and its packages."
}

variable "secret_name" {
  type        = string
  description = "A secret of Secrets Manager, as JSON with the keys database_url and token."
}

variable "schedule" {
  type        = string
  default     = "rate(1 minute)"
  description = "When to sweep."
}

variable "timeout" {
  type        = number
  default     = 60
  description = "How many seconds an invocation may take."
}

data "aws_region" "here" {}
data "aws_caller_identity" "me" {}
data "aws_partition" "this" {}

data "aws_secretsmanager_secret_version" "settings" {
  secret_id = var.secret_name
}

locals {
  settings = jsondecode(data.aws_secretsmanager_secret_version.settings.secret_string)
  place    = "${data.aws_region.here.name}:${data.aws_caller_identity.me.account_id}"
  # Not taken from the function: it knows the role, and the role knows it.
  function_arn = "arn:${data.aws_partition.this.partition}:lambda:${local.place}:function:${var.name}"
}

resource "aws_lambda_function" "this" {
  function_name    = var.name
  role             = aws_iam_role.function.arn
  runtime          = "python3.13"
  handler          = "app.handler"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  memory_size      = 512
  timeout          = var.timeout

  environment {
    variables = {
      DATABASE_URL   = local.settings.database_url
      WORKFLOW_TOKEN = local.settings.token
      WAKER_ROLE_ARN = aws_iam_role.waker.arn
    }
  }

  depends_on = [aws_cloudwatch_log_group.this]
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 30
}

# The next tick of the schedule is the retry.
resource "aws_lambda_function_event_invoke_config" "this" {
  function_name          = aws_lambda_function.this.function_name
  maximum_retry_attempts = 0
}

# The address is public; the app lets in who has the token.
resource "aws_lambda_function_url" "this" {
  function_name      = aws_lambda_function.this.function_name
  authorization_type = "NONE"
}

resource "aws_iam_role" "function" {
  name_prefix = var.name
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "function" {
  role = aws_iam_role.function.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.this.arn}:*"
      },
      {
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
        Resource = aws_sqs_queue.work.arn
      },
      {
        Effect   = "Allow"
        Action   = "scheduler:CreateSchedule"
        Resource = "arn:${data.aws_partition.this.partition}:scheduler:${local.place}:schedule/default/workflow-*"
      },
      { Effect = "Allow", Action = "iam:PassRole", Resource = aws_iam_role.waker.arn },
    ]
  })
}

# What a schedule may do: invoke the function.
resource "aws_iam_role" "waker" {
  name_prefix = "${var.name}-waker"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.me.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "waker" {
  role = aws_iam_role.waker.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "lambda:InvokeFunction", Resource = local.function_arn }]
  })
}

resource "aws_scheduler_schedule" "sweep" {
  name                = "${var.name}-sweep"
  schedule_expression = var.schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this.arn
    role_arn = aws_iam_role.waker.arn

    retry_policy {
      maximum_retry_attempts = 0
    }
  }
}

resource "aws_sqs_queue" "work" {
  name                       = "${var.name}-work"
  visibility_timeout_seconds = 6 * var.timeout
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 5 })
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  message_retention_seconds = 1209600
}

resource "aws_lambda_event_source_mapping" "work" {
  event_source_arn        = aws_sqs_queue.work.arn
  function_name           = aws_lambda_function.this.arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = 5
  }
}

# Somebody should hear of it when sweeps fail for a while.
resource "aws_cloudwatch_metric_alarm" "failing" {
  alarm_name          = "${var.name}-failing"
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 3
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
}

output "url" {
  value = aws_lambda_function_url.this.function_url
}

output "queue_url" {
  value = aws_sqs_queue.work.url
}
