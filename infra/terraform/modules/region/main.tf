module "bucket" {
  source = "../bucket"

  name        = "${var.bucket_prefix}-${var.region}"
  aws_region  = var.aws_region
  account_id  = var.account_id
  partition   = var.partition
  writer_arns = [aws_iam_role.this.arn, var.control_role_arn]
}

module "documents" {
  source = "../role_documents"

  namespace       = var.namespace
  service_account = "regiolect-${var.region}"
  oidc            = var.oidc
  writes          = [merge(module.bucket.location, { prefix = var.store_prefix })]
  reads           = [var.shared]
}

resource "aws_iam_role" "this" {
  name                 = "${var.bucket_prefix}-${var.region}"
  description          = "Regiolect's jobs of region ${var.region}: read and write its bucket, read the shared one."
  assume_role_policy   = module.documents.trust
  max_session_duration = 3600
}

resource "aws_iam_role_policy" "this" {
  name   = "stores"
  role   = aws_iam_role.this.id
  policy = module.documents.permissions
}
