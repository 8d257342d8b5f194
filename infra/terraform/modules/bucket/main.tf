module "documents" {
  source = "../bucket_documents"

  name        = var.name
  aws_region  = var.aws_region
  account_id  = var.account_id
  partition   = var.partition
  key_arn     = aws_kms_key.this.arn
  writer_arns = var.writer_arns
  reader_arns = var.reader_arns
}

resource "aws_kms_key" "this" {
  region                  = var.aws_region
  description             = "Bucket ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}

# Apart from the key: it names roles, whose permissions name the key.
resource "aws_kms_key_policy" "this" {
  region = var.aws_region
  key_id = aws_kms_key.this.key_id
  policy = module.documents.key_policy
}

resource "aws_kms_alias" "this" {
  region        = var.aws_region
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_s3_bucket" "this" {
  region = var.aws_region
  bucket = var.name

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_ownership_controls" "this" {
  region = var.aws_region
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  region = var.aws_region
  bucket = aws_s3_bucket.this.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "this" {
  region = var.aws_region
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  region = var.aws_region
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  region = var.aws_region
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  region = var.aws_region
  bucket = aws_s3_bucket.this.id
  policy = module.documents.bucket_policy

  # While a policy is new, S3 checks whether it is public: the block must be there first.
  depends_on = [aws_s3_bucket_public_access_block.this]
}
